/* images.h - commands that a child calls instead of executing them. */
#ifndef T_FUZZ_IMAGES_H
#define T_FUZZ_IMAGES_H

int zcp_shmdump(int argc, const char **argv);
int zcp_top(int argc, const char **argv);

#endif
