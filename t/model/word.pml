/*
 * word.pml - the life of a chunk's word with deaths, zcp-design(7).
 *
 * One chunk; two owners, each of which loans it, publishes, or is killed
 * between any two steps; a reader that takes and holds; two sweepers.
 * Asserted: it never belongs to two, nor is taken from one that lives or reads;
 * and when all have ended, a last sweep finds it free.
 *
 * Mutations: LOOSE_CAS, SERIAL_REUSED, STATE_FIRST, WORD_LATE, NO_NAMED
 */
#define CHUNKS 1
#define NONE 255
#define FREE 0
#define LOANED 1
#define PUBLISHED 2
#define LIVE 1
#define DEAD 2

/* What is in one word of memory changes in one step. */
byte state[CHUNKS], serial[CHUNKS], number[CHUNKS];
byte user[CHUNKS];		/* who may write it: a ghost */
bool reading[CHUNKS];		/* a ghost, too */

byte port[3];			/* by serial: 0 none, LIVE, DEAD */
byte stamp[3], named[3];	/* a ring of one slot, by serial */
byte tail[3];
byte hold = NONE, sweepers = 2;
bool ended;

inline claim(me)
{
	x = NONE;
	atomic {
		if
		:: state[0] == FREE ->
			assert(user[0] == 0 && !reading[0]);
			state[0] = LOANED; serial[0] = me; x = 0; user[0] = me
		:: else
		fi
	}
}

inline publish(me)
{
#ifndef WORD_LATE
	atomic { state[x] = PUBLISHED; number[x] = 0; user[x] = 0 };
#endif
	if :: alive[me] :: true -> goto killed fi;
	stamp[me] = 0;
	named[me] = x;
	if :: alive[me] :: true -> goto killed fi;
	stamp[me] = 1;
#ifdef WORD_LATE
	if :: alive[me] :: true -> goto killed fi;
	atomic { state[x] = PUBLISHED; number[x] = 0; user[x] = 0 };
#endif
	skip
}

bool alive[3];

proctype owner(byte me)
{
	byte x;

	port[me] = LIVE;
	if :: alive[me] :: true -> goto killed fi;
	claim(me);
	if
	:: x == NONE -> goto killed
	:: else
	fi;
	if :: alive[me] :: true -> goto killed fi;
	publish(me);
	if	/* it goes past it, having looked at no reader: lossy */
	:: tail[me] = 1
	:: skip
	fi;
killed:	/* its own accesses are over; the daemon marks its port */
	atomic {
		if :: user[0] == me -> user[0] = 0 :: else fi
	};
	port[me] = DEAD
}

proctype reader()
{
	byte x, me;

	for (me : 1 .. 2) {
		if
		:: stamp[me] == 1 ->
			x = named[me];
			hold = x;
			if
			:: stamp[me] == 1 && tail[me] == 0 ->
				reading[x] = true;
				assert(user[x] == 0);
				reading[x] = false
			:: else
			fi;
			hold = NONE
		:: else
		fi
	}
}

inline sweep()
{
	k = 0;
	do
	:: k == CHUNKS -> break
	:: k < CHUNKS ->
#ifdef STATE_FIRST
		p[1] = port[1]; p[2] = port[2];
#endif
		atomic { w = state[k]; s = serial[k]; n = number[k] };
		t = tail[s];
#ifndef STATE_FIRST
		p[s] = port[s];
#endif
		if
		:: w == LOANED && p[s] != LIVE -> free(k)
		:: w == PUBLISHED && p[s] == LIVE && n < t && hold != k ->
			free(k)
		:: w == PUBLISHED && p[s] != LIVE ->
#ifndef NO_NAMED
			if
			:: stamp[s] == 1 && named[s] == k && t == 0 -> goto next
			:: else
			fi;
#endif
			if
			:: hold == k -> goto next
			:: else
			fi;
			free(k)
		:: else
		fi;
next:		k++
	od
}

inline free(c)
{
	atomic {
		if
#ifdef LOOSE_CAS
		:: state[c] == w ->
#else
		:: state[c] == w && serial[c] == s && number[c] == n ->
#endif
			assert(user[c] == 0 && !reading[c]);
			state[c] = FREE; serial[c] = 0; number[c] = 0
		:: else
		fi
	}
}

proctype sweeper()
{
	byte k, w, s, n, t;
	byte p[3];

	sweep();
	atomic { sweepers-- }
}

init
{
	byte k, w, s, n, t;
	byte p[3];

	alive[1] = true;
	alive[2] = true;
	atomic {
		state[0] = FREE;
		run reader();
		run sweeper();
		run sweeper()
	};
#ifdef SERIAL_REUSED
	run owner(1);
	port[1] == DEAD;
	tail[1] = 0; stamp[1] = 0;
	run owner(1);
#else
	run owner(1);
	run owner(2);
#endif
	/* All have ended but this one: rings are drained, and a last sweep. */
	_nr_pr == 1;
	tail[1] = 1;
	tail[2] = 1;
	sweep();
	assert(state[0] == FREE)
}
