#include "guard.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"

struct range {
	char *base;
	uint64_t size;
};

static struct range *ranges;
static volatile sig_atomic_t count;
static uint32_t room;
static uintptr_t page;
static bool installed;

static bool guarded(const char *address)
{
	for (int i = 0; i < count; i++)
		if (address >= ranges[i].base &&
		    address < ranges[i].base + ranges[i].size)
			return true;
	return false;
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	void *at = (void *)((uintptr_t)info->si_addr & ~(page - 1));

	(void)context;
	if (info->si_code == BUS_ADRERR && guarded(info->si_addr) &&
	    mmap(at, page, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
		return;
	signal(sig, SIG_DFL);	/* ours to die of: on return it comes again */
}

int guard_install(void)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_bus;
	act.sa_flags = SA_SIGINFO;
	page = (uintptr_t)sysconf(_SC_PAGESIZE);
	if (sigaction(SIGBUS, &act, NULL) < 0)
		return error_sys("cannot handle SIGBUS");
	installed = true;
	return 0;
}

void guard_add(void *base, uint64_t size)
{
	if (!installed)
		return;
	if ((uint32_t)count == room) {
		uint32_t to = room ? room * 2 : 64;
		struct range *bigger = realloc(ranges, to * sizeof(*bigger));

		if (bigger == NULL)
			return;		/* unguarded, as anywhere else */
		ranges = bigger;
		room = to;
	}
	ranges[count] = (struct range){ base, size };
	count++;
}

void guard_remove(void *base)
{
	for (int i = 0; i < count; i++)
		if (ranges[i].base == base) {
			ranges[i] = ranges[count - 1];
			count--;
			return;
		}
}
