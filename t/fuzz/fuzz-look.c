/*
 * A libFuzzer target: whatever bytes a domain's files have, who looks at them
 * or attaches to them gets an answer.  Without libFuzzer it runs the inputs
 * that it is given, files or directories of files.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guard.h"
#include "image.h"
#include "visit.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char domain[32];

static void tidy(void)
{
	image_remove(domain);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (domain[0] == '\0') {
		snprintf(domain, sizeof(domain), "fuzz%d", (int)getpid());
		guard_install();
		atexit(tidy);
	}
	if (image_unpack(domain, bytes, size)) {
		visit_watch(domain);
		visit_enter(domain);
	}
	image_remove(domain);
	return 0;
}

#ifndef ZCP_LIBFUZZER
static unsigned runs;

static void run_file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *f = fopen(path, "r");

	if (f == NULL) {
		perror(path);
		exit(1);
	}
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof(bytes), f));
	fclose(f);
	runs++;
}

static void run_directory(const char *path, DIR *d)
{
	struct dirent *e;
	char file[512];

	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.') {
			snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
			run_file(file);
		}
	closedir(d);
}

/* As a test: the corpus of the source. */
static void run_corpus(void)
{
	const char *source = getenv("srcdir");
	char path[512];
	DIR *d;

	snprintf(path, sizeof(path), "%s/t/fuzz/corpus", source ? source : ".");
	if ((d = opendir(path)) != NULL)
		run_directory(path, d);
}

int main(int argc, char **argv)
{
	if (argc == 1)
		run_corpus();
	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);

		if (d != NULL)
			run_directory(argv[i], d);
		else
			run_file(argv[i]);
	}
	printf("%u inputs\n", runs);
	return runs == 0;
}
#endif
