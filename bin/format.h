/* format.h - messages in forms for people and scripts: -f, -J, -x. */
#ifndef ZCP_FORMAT_H
#define ZCP_FORMAT_H

#include "output.h"

/*
 * -f: %t topic  %s payload  %S its size  %x it in hex  %o seq  %k type
 * %p publisher  %P its pid  %T time  %D delay  %%; and escapes, as of -D.
 * Changes `text`, which must stay.  An exit status: what is wrong is said.
 */
int format_set(char *text);
output_render format_render;

/* -J: an object a line. */
output_render envelope_render;

/* -x: a line for the message, then 16 bytes a line. */
output_render hexdump_render;

/* Seconds since 1970 at which a message was published, with nine decimals;
 * how long ago that was.  "-": it was not stamped. */
enum { STAMP_TEXT = 32 };
void stamp_time(char text[STAMP_TEXT], const zcp_msg *msg);
void stamp_delay(char text[STAMP_TEXT], const zcp_msg *msg);

#endif
