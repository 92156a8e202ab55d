/* pidfd.h - a process by a descriptor, which stays its own whatever becomes of
 * its number.  < 0 with errno. */
#ifndef ZCP_ROUTED_PIDFD_H
#define ZCP_ROUTED_PIDFD_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef __NR_pidfd_send_signal
#define __NR_pidfd_send_signal 424
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif

static inline int pidfd_of_process(pid_t pid)
{
	return (int)syscall(__NR_pidfd_open, pid, 0);
}

static inline int pidfd_kill(int fd, int sig)
{
	return (int)syscall(__NR_pidfd_send_signal, fd, sig, NULL, 0);
}

#endif
