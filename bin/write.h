/* write.h - all of it, to a descriptor that may be slow or not blocking. */
#ifndef ZCP_WRITE_H
#define ZCP_WRITE_H

#include <sys/uio.h>

/* 0, or -1 with errno.  Changes the pieces. */
int write_all(int fd, struct iovec *piece, unsigned pieces);

#endif
