/* error.h - the message of this thread's last failure. */
#ifndef ZCP_LIB_ERROR_H
#define ZCP_LIB_ERROR_H

#include "zcp.h"

/* Sets the message; returns -code. */
int error_set(enum zcp_error code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with strerror(errno) behind it; EACCES and EPERM become PERM. */
int error_sys(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Puts what a higher layer attempted before the message; returns rc. */
int error_in(int rc, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
