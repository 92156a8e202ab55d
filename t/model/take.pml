/*
 * take.pml - taking, reclaiming and reusing chunks, zcp-design(7).
 *
 * One ring of SLOTS, CHUNKS chunks, LAST messages, one a chunk; reader 0 is
 * lossy, reader 1 reliable until somebody demotes it (ONLY says which takes
 * part alone).  Stores of readers go through a store buffer, as x86 has it; the
 * fence of the owner empties all.  A second sweeper runs beside (not ALONE).
 * RUN: a reader takes two messages at once where there are two, and looks at
 * the tail once for both.  The slot's own mark is left out: the tail alone
 * tells that a slot was not rewritten while it was copied.
 * Asserted: what is read in place is the message that was taken, for as long
 * as it is held.
 *
 * Variants: ONLY=0+LAST=4, ONLY=1+LAST=4, ALONE+LAST=3, RUN+ONLY=0+LAST=4,
 * RUN+ONLY=1+LAST=4, RUN+ALONE+LAST=3
 * Mutations: NO_VALIDATE+ONLY=0, TRUST_RELIABLE+ONLY=1, HOLD_LATE+ONLY=0,
 * CURSOR_FIRST+ONLY=1, NO_FENCE+ONLY=0, SWEEP_NO_FENCE+ONLY=0, NO_HOLDS+ONLY=1,
 * RUN+LAST_OF_RUN+ONLY=0
 */
#ifndef LAST
#define LAST 4
#endif
#define SLOTS 2
#define CHUNKS 2
#define NONE 255
#define BUSY 254

#define HOLD 0
#define SECOND 1
#define CURSOR 2
#define FREE 0
#define LOANED 1
#define PUBLISHED 2

byte tail;
byte stamp[SLOTS], named[SLOTS];
byte state[CHUNKS], number[CHUNKS], data[CHUNKS];
byte hold[2], second[2], cursor[2];	/* as others see them; chunk + 1 */
bool demoted;
chan buffer[2] = [4] of { byte, byte };

inline store(r, what, value) { buffer[r] ! what, value }

inline drain(r)
{
	do
	:: buffer[r] ? HOLD, v -> hold[r] = v
	:: buffer[r] ? SECOND, v -> second[r] = v
	:: buffer[r] ? CURSOR, v -> cursor[r] = v
	:: empty(buffer[r]) -> break
	od
}

inline heavy_fence() { atomic { drain(0); drain(1) } }

active [2] proctype store_buffer()
{
	byte r = _pid, v;
end:	do
	:: atomic { buffer[r] ? HOLD, v -> hold[r] = v }
	:: atomic { buffer[r] ? SECOND, v -> second[r] = v }
	:: atomic { buffer[r] ? CURSOR, v -> cursor[r] = v }
	od
}

active [2] proctype reader()
{
	byte r = _pid - 2, c = 0, n = 1, x, y, t;

#ifdef ONLY
	if
	:: r != ONLY -> cursor[r] = LAST; goto out
	:: else
	fi;
#endif
	do
	:: c == LAST -> break
	:: c < LAST && stamp[c % SLOTS] == c + 1 ->
		x = named[c % SLOTS];
#ifdef CURSOR_FIRST
		store(r, CURSOR, c + 1);
#endif
#ifndef HOLD_LATE
		store(r, HOLD, x + 1);
#endif
#ifdef RUN
		if
		:: c + 1 < LAST && stamp[(c + 1) % SLOTS] == c + 2 ->
			y = named[(c + 1) % SLOTS];
			store(r, SECOND, y + 1);
			n = 2
		:: else
		fi;
#endif
		t = tail;
#ifdef HOLD_LATE
		store(r, HOLD, x + 1);
#endif
		if
#ifndef NO_VALIDATE
#ifdef TRUST_RELIABLE
		:: t > c && r == 0 ->
#else
#ifdef LAST_OF_RUN
		:: t > c + n - 1 ->
#else
		:: t > c ->
#endif
#endif
			store(r, HOLD, 0);
			if
			:: n == 2 -> store(r, SECOND, 0); n = 1
			:: else
			fi;
			goto passed
#endif
		:: else ->
#ifndef CURSOR_FIRST
			store(r, CURSOR, c + n);
#endif
			assert(data[x] == c);
			assert(data[x] == c);
			store(r, HOLD, 0);
			if
			:: n == 2 ->
				assert(data[y] == c + 1);
				assert(data[y] == c + 1);
				store(r, SECOND, 0)
			:: else
			fi;
			d_step { c = c + n; n = 1; x = 0; y = 0 }
		fi
	:: c < LAST && stamp[c % SLOTS] != c + 1 && tail > c ->
passed:		t = tail;
		if
		:: t > c -> c = t; store(r, CURSOR, c)
		:: else
		fi
	od;
out:	skip
}

/* As far as a reader allows: lossy, one message is kept for it. */
inline allow(at, lossy)
{
	if
	:: lossy && head > 1 && head - 1 > at ->
		if
		:: head - 1 < limit -> limit = head - 1
		:: else
		fi
	:: !(lossy && head > 1 && head - 1 > at) && at < limit -> limit = at
	:: else
	fi
}

/* A chunk that nobody holds goes by one CAS, from what was judged. */
inline judge(to_tail)
{
	atomic {
		n = number[k];
		if
		:: !(state[k] == PUBLISHED && n < to_tail) -> goto next
		:: else
		fi
	};
#ifndef NO_HOLDS
	if
	:: hold[0] == k + 1 -> goto next
	:: else
	fi;
	if
	:: hold[1] == k + 1 -> goto next
	:: else
	fi;
#ifdef RUN
	if
	:: second[0] == k + 1 -> goto next
	:: else
	fi;
	if
	:: second[1] == k + 1 -> goto next
	:: else
	fi;
#endif
#endif
	d_step {
		if
		:: state[k] == PUBLISHED && number[k] == n -> state[k] = FREE
		:: else
		fi
	};
next:	skip;
	d_step { k++; n = 0 }
}

inline collect(to_tail)
{
	do
	:: k == CHUNKS -> k = 0; break
	:: else -> judge(to_tail)
	od
}

/* The owner's reclaim, its fence only where a reader was passed over. */
inline reclaim()
{
	seen0 = cursor[0];
	seen1 = cursor[1];
	d_step {
		limit = head;
		allow(seen0, true);
		allow(seen1, demoted);
		if
		:: limit > tail -> tail = limit
		:: else
		fi;
		limit = 0
	};
#ifndef NO_FENCE
	if
	:: tail > seen0 || tail > seen1 -> heavy_fence()
	:: else
	fi;
#endif
	d_step { seen0 = 0; seen1 = 0 };
	collect(tail)
}

active proctype owner()
{
	byte head, k, n, v, limit, seen0, seen1, x;

	do
	:: head == LAST -> break
	:: head < LAST && (head - tail == SLOTS ||
	   (state[0] != FREE && state[1] != FREE)) -> reclaim()
	:: head < LAST && head - tail < SLOTS &&
	   (state[0] == FREE || state[1] == FREE) ->
		/* Nobody else takes a free one. */
		d_step {
			x = (state[0] == FREE -> 0 : 1);
			state[x] = LOANED
		};
		data[x] = NONE;
		data[x] = head;
		d_step { number[x] = head; state[x] = PUBLISHED };
		stamp[head % SLOTS] = BUSY;
		named[head % SLOTS] = x;
		stamp[head % SLOTS] = head + 1;
		d_step { head++; x = 0 }
	od
}

/* Another one's sweep: it moves no tail, and fences between tail and holds. */
active proctype sweeper()
{
	byte k, n, t, v;

#ifdef ALONE
	goto out;
#endif
	t = tail;
#ifndef SWEEP_NO_FENCE
	heavy_fence();
#endif
	collect(t);
	t = 0;
out:	skip
}

active proctype demoter()
{
	demoted = true;
	demoted = false
}
