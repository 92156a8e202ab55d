/* background.h - how the route daemon becomes nobody's child. */
#ifndef ZCP_BACKGROUND_H
#define ZCP_BACKGROUND_H

/*
 * Runs serve(arg) in a process of its own that keeps nothing of this one but
 * standard error, and that only until background_ready(): a session of its
 * own, no other descriptor, the root directory, the strictest umask, default
 * signals, limits, priority and processors as far as the user may have them.
 * Returns 0 as soon as the daemon is ready, else the status with which
 * serve() ended.
 */
int background(int (*serve)(void *arg), void *arg);

/*
 * Called by serve() once clients are served: lets the parent return.  From now
 * on the log goes to standard error if `keep_stderr` (somebody has put a file
 * there), else to syslog.  No effect in the foreground.
 */
void background_ready(int keep_stderr);

#endif
