#include "write.h"

#include <errno.h>
#include <poll.h>

int write_all(int fd, struct iovec *piece, unsigned pieces)
{
	while (pieces > 0) {
		ssize_t n = writev(fd, piece, (int)pieces);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -1;
		for (; pieces > 0 && n >= (ssize_t)piece->iov_len;
		    piece++, pieces--)
			n -= (ssize_t)piece->iov_len;
		if (n > 0) {
			piece->iov_base = (char *)piece->iov_base + n;
			piece->iov_len -= (size_t)n;
		}
	}
	return 0;
}
