/* replay.h - frames (frame.h) back onto the bus: each on its own topic. */
#ifndef ZCP_REPLAY_H
#define ZCP_REPLAY_H

#include "zcp.h"

struct replay {
	zcp *bus;
	const zcp_pub_options *options;
	/* A publisher is new: what there is to wait for; an exit status. */
	int (*opened)(zcp_pub *pub);
	double speed;			/* of the recording's own; 0: at once */
	int64_t first, began;		/* time of the first frame, ours then */
	struct replay_topic *topics;
};

/* Replays a file, or standard input ("-"); an exit status. */
int replay_file(struct replay *r, const char *path);

/* Each topic's summary, by `tell`, and its end. */
void replay_close(struct replay *r,
    void (*tell)(const zcp_pub *pub, const char *topic));

#endif
