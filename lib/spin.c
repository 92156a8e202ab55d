#include "spin.h"

#include <sched.h>

#include "atomics.h"
#include "clock.h"

enum { LEAST = 2000, MOST = 50000, LOOKS = 32 };

static bool single_processor(void)
{
	static atomic_int known;	/* 0 not asked, 1 one, 2 several */
	int n = atomic_load_explicit(&known, memory_order_relaxed);
	cpu_set_t set;

	if (n == 0) {
		n = sched_getaffinity(0, sizeof(set), &set) == 0 &&
		    CPU_COUNT(&set) == 1 ? 1 : 2;
		atomic_store_explicit(&known, n, memory_order_relaxed);
	}
	return n == 1;
}

bool spin_until(const uint64_t *budget, uint64_t deadline,
    bool (*ready)(void *), void *arg)
{
	uint64_t end;

	if (single_processor())
		return false;
	end = clock_ns() + *budget;
	if (end > deadline)
		end = deadline;
	do {
		for (int i = 0; i < LOOKS; i++) {
			if (ready(arg))
				return true;
			cpu_relax();
		}
	} while (clock_ns() < end);
	return false;
}

void spin_learn(uint64_t *budget, uint64_t began)
{
	uint64_t waited = clock_ns() - began;

	if (waited < MOST)
		*budget = waited * 2 > MOST ? MOST : waited * 2;
	else
		*budget = *budget / 2 < LEAST ? LEAST : *budget / 2;
}
