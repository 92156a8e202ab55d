/*
 * site.h - where a domain lies.
 *
 * Each user has one directory in SEGMENT_DIR, "zcp-<uid>", and each of the
 * user's domains has one in that, "<domain>", with the segments, the lock and
 * the socket.  $ZCP_RUNTIME_DIR makes another bus of the same name: its
 * directory is "<domain>@<hash of that path>", and its socket is
 * $ZCP_RUNTIME_DIR/<domain>.sock.  Nothing else of a process's environment
 * matters.
 *
 * Anybody may make names in SEGMENT_DIR.  A user's directory is therefore the
 * first of a fixed row of names ("zcp-<uid>", "zcp-<uid>.1", ...) that is a
 * directory of that user; only when there is none is one made, at the first
 * name that is free.  Every program finds it in this way.
 */
#ifndef ZCP_SITE_H
#define ZCP_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "layout.h"
#include "segment.h"

enum {
	SITE_ROW = 16,			/* names that a user's directory may have */
	SOCKET_PATH = 108,		/* sockaddr_un.sun_path */
	SITE_LEAF = DOMAIN_NAME + 18,	/* "<domain>@<16 digits>" */
};

struct site {
	char domain[DOMAIN_NAME + 1];
	uid_t uid;
	char home[64];			/* the user's directory; "": there is none */
	char dir[SEGMENT_DIR_MOST];	/* the domain's, in it; "": as above */
	char socket[SOCKET_PATH];	/* "": as above, or unknown */
	char runtime[SOCKET_PATH];	/* as the socket's path has it; "": none */
};

/* $ZCP_RUNTIME_DIR, or NULL. */
const char *site_runtime(void);

/*
 * Makes a relative $ZCP_RUNTIME_DIR absolute in the environment: for a process
 * that is about to leave its working directory.
 */
int site_fix_runtime(void);

/*
 * The site of `uid`'s domain under `runtime` (NULL: none).  1: its directory
 * is there; 0: it is not.  -ZCP_E_PERM: something there has the wrong owner or
 * mode; -ZCP_E_ARG: a path would be too long; -ZCP_E_SYS.
 */
int site_find(struct site *s, uid_t uid, const char *runtime,
    const char *domain);

/* The same of this user and this environment. */
int site_here(struct site *s, const char *domain);

/* Of a directory that site_each() has shown.  Returns as site_find(). */
int site_at(struct site *s, const char *dir);

/* This environment's site, and its directories are made where they are not
 * there.  0 or an error as above, which says what is in the way. */
int site_make(struct site *s, const char *domain);

/* The domain's directory and then its user's, if they are empty. */
void site_remove(const struct site *s);

/* Its socket's path; where its user has no directory yet, what it would be. */
const char *site_socket_name(const struct site *s);

/* "; user 1000 has a domain of that name", for a message; "" where nobody has,
 * or where this user may not look. */
void site_others(const char *domain, char text[128]);

/* Where its socket's name is kept aside: "gone" for "sock". */
void site_aside(const struct site *s, char path[SOCKET_PATH]);

/* Calls back for the directory of each of this user's domains, until it
 * returns other than 0, which is returned. */
int site_each(int (*visit)(void *arg, const char *dir), void *arg);

/* "a file of uid 65534", "nothing": what stands at a path, for a message. */
void site_what(const char *path, char what[64]);

#endif
