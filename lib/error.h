/* error.h - the message of this thread's last failure. */
#ifndef ZCP_LIB_ERROR_H
#define ZCP_LIB_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "zcp.h"

/* Sets the message; returns -code. */
int error_set(enum zcp_error code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with strerror(errno) behind it; EACCES and EPERM become PERM. */
int error_sys(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * What of this thread's last failure is for programs, beside the sentence that
 * is for people: a number with a name.  error_set() and error_sys() forget it.
 */
void error_number(const char *key, uint64_t number);
/* " key=N" for each; "" for none. */
const char *error_numbers(void);

/* A code as the control protocol spells it, with or without its minus: "BUSY".
 * And back, from `length` bytes: 0 when it is none. */
const char *error_name(int code);
int error_code(const char *name, size_t length);

/* Puts what a higher layer attempted before the message; returns rc. */
int error_in(int rc, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
