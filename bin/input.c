#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "progress.h"
#include "units.h"

enum { TICK_MS = 500 };

int input_open(struct input *in, const char *path)
{
	struct stat st;
	int saved;

	*in = (struct input){ STDIN_FILENO, "standard input", true };
	if (strcmp(path, "-") != 0) {
		in->name = path;
		if ((in->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
			saved = errno;
			cli_error("cannot open %s: %s%s", path,
			    strerror(saved), saved == ENOENT ?
			    " (-m TEXT publishes a text)" : "");
			return saved == EACCES ? CLI_PERMISSION : CLI_ERROR;
		}
	}
	in->waits = fstat(in->fd, &st) < 0 || !S_ISREG(st.st_mode);
	return CLI_OK;
}

void input_close(struct input *in)
{
	if (in->fd != STDIN_FILENO)
		close(in->fd);
}

bool input_empty(const struct input *in)
{
	struct pollfd p = { .fd = in->fd, .events = POLLIN };

	return in->waits && poll(&p, 1, 0) == 0;
}

/* Is there news, of input or of a signal? */
static bool news(const struct input *in, int ms)
{
	struct pollfd p[2] = { { .fd = in->fd, .events = POLLIN },
	    { .fd = cli_signal_fd(), .events = POLLIN } };

	return poll(p, 2, ms) > 0 || cli_signal();
}

void input_wait_for(const struct input *in, int64_t most)
{
	if (in->waits)
		news(in, (int)(most / (SECOND / 1000)) + 1);
}

void input_wait(const struct input *in)
{
	while (in->waits && !news(in, progress_shown() ? TICK_MS : -1))
		progress_tick();
}

ssize_t input_read(const struct input *in, void *data, size_t size)
{
	ssize_t n = -1;

	for (;;) {
		input_wait(in);
		if (cli_signal())
			return 0;
		if ((n = read(in->fd, data, size)) >= 0)
			return n;
		/* EAGAIN: somebody else was faster. */
		if (errno != EINTR && errno != EAGAIN)
			break;
	}
	cli_error("cannot read %s: %s", in->name, strerror(errno));
	return -1;
}
