/* json.h - JSON text, piece by piece; and bytes that are no text. */
#ifndef ZCP_JSON_H
#define ZCP_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Takes the next `size` bytes. */
typedef void emit_bytes(void *to, const char *bytes, size_t size);

/* Is it UTF-8 (RFC 3629), zero bytes included? */
bool text_is_utf8(const char *data, size_t size);

/* A string of valid UTF-8, with its quotes. */
void text_json(emit_bytes *emit, void *to, const char *data, size_t size);

/* Base64 (RFC 4648), as a string with its quotes. */
void text_base64(emit_bytes *emit, void *to, const void *data, size_t size);

#endif
