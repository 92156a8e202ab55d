/*
 * probes.h - USDT probes (systemtap's sys/sdt.h): places where bpftrace, perf
 * or gdb may look in while programs run.  Each is one nop, and a note in the
 * file that says where the arguments are; nobody looks: nothing happens.
 *
 *   loan      topic, chunk id, bytes asked for
 *   publish   topic, seq, bytes
 *   take      topic, seq, bytes
 *   release   topic, seq
 *   reclaim   topic, new tail
 *   wake      bell
 *   drop      topic, messages that a reader was told it lost
 *   register  what was registered, port
 *   death     participant's name, pid
 */
#ifndef ZCP_PROBES_H
#define ZCP_PROBES_H

#include "config.h"

#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#define probe1(name, a) DTRACE_PROBE1(zcp, name, a)
#define probe2(name, a, b) DTRACE_PROBE2(zcp, name, a, b)
#define probe3(name, a, b, c) DTRACE_PROBE3(zcp, name, a, b, c)
#else
#define probe1(name, a) ((void)0)
#define probe2(name, a, b) ((void)0)
#define probe3(name, a, b, c) ((void)0)
#endif

#endif
