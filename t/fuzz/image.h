/*
 * image.h - a domain's files as one string of bytes, for those who change
 * bytes for a living.
 *
 * An image is a row of pieces: a file (u8 part, u8 slot), u16 length, u32
 * line, all little-endian, and `length` bytes for that file at 64 * line; of
 * length 0: the file has 64 * line bytes.  Any string of bytes is one.
 */
#ifndef T_FUZZ_IMAGE_H
#define T_FUZZ_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The files of a domain in /dev/shm, without what is zero; false: errno. */
bool image_pack(const char *domain, FILE *to);

/* Makes the files; what makes no sense is left out.  False: /dev/shm has not
 * room for them. */
bool image_unpack(const char *domain, const uint8_t *bytes, size_t size);

/* A few words, bytes, bits or lengths of its files changed. */
void image_mutate(const char *domain, uint32_t *seed);
/* One place of one file, and no length. */
void image_damage(const char *domain, uint32_t *seed);

void image_remove(const char *domain);

/* Where its files lie, once they were made. */
const char *image_directory(const char *domain);

#endif
