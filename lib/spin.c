#include "spin.h"

#include <unistd.h>

#include "atomics.h"
#include "clock.h"

/* Budgets in ns; a wait shorter than PAYS, its wake-up included, is worth
 * spinning; after VAIN in vain it is not, but tried again every AGAIN. */
enum { LEAST = 2000, MOST = 50000, PAYS = 80000, LOOKS = 32, VAIN = 8,
    AGAIN = 64 };

static bool single_processor(void)
{
	static atomic_int known;	/* 0 not asked, 1 one, 2 several */
	int n = atomic_load_explicit(&known, memory_order_relaxed);

	if (n == 0) {
		n = sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 1 : 2;
		atomic_store_explicit(&known, n, memory_order_relaxed);
	}
	return n == 1;
}

bool spin_until(struct spin *spin, uint64_t deadline, bool (*ready)(void *),
    void *arg)
{
	uint64_t end;

	if (single_processor())
		return false;
	end = clock_ns() + spin->budget;
	if (end > deadline)
		end = deadline;
	do {
		for (int i = 0; i < LOOKS; i++) {
			if (ready(arg)) {
				spin->vain = 0;
				return true;
			}
			cpu_relax();
		}
	} while (clock_ns() < end);
	return false;
}

void spin_learn(struct spin *spin, uint64_t began)
{
	uint64_t waited = spin->budget + (clock_ns() - began);

	if (++spin->vain % AGAIN == 0 || (waited < PAYS && spin->vain < VAIN))
		spin->budget = MOST;
	else if (spin->budget > LEAST)
		spin->budget /= 2;
}
