/*
 * join.pml - a reader that joins while an owner reclaims, zcp-design(7).
 *
 * MESSAGES lie in the ring; the owner reclaims twice; the daemon lists a reader
 * at any moment, which stores its cursor through a store buffer, fences, looks
 * at the tail, and then reads.  Asserted: what it reads has not been taken
 * back.
 *
 * Mutations: NO_SECOND_LOOK, NO_UNJOINED_FENCE, NO_TAIL_LOOK
 */
#define MESSAGES 3
#define NONE 255

byte tail, cursor = NONE, hold = NONE;
bool listed, freed[MESSAGES];
byte generation;
chan buffer = [3] of { byte, byte };	/* 0 hold, 1 cursor; value */

inline settle()
{
	do
	:: buffer ? 0, v -> hold = v
	:: buffer ? 1, v -> cursor = v
	:: empty(buffer) -> break
	od
}

active proctype store_buffer()
{
	byte v;
end:	do
	:: atomic { buffer ? 0, v -> hold = v }
	:: atomic { buffer ? 1, v -> cursor = v }
	od
}

active proctype reader()
{
	byte c = 0, t, v;

	atomic { listed = true; generation++ };
again:	buffer ! 1, c;
#ifndef NO_READER_FENCE
	atomic { settle() };
#endif
#ifndef NO_TAIL_LOOK
	t = tail;
	if
	:: t > c -> c = t; goto again
	:: else
	fi;
#endif
	do
	:: c == MESSAGES -> break
	:: c < MESSAGES ->
		buffer ! 0, c;
#ifdef NO_TAIL_LOOK
		t = 0;
#else
		t = tail;
#endif
		if
		:: t <= c ->
			buffer ! 1, (c + 1);
			assert(!freed[c]);
			assert(!freed[c]);
			buffer ! 0, NONE;
			c++
		:: else ->
			buffer ! 0, NONE;
			c = t;
			buffer ! 1, c
		fi
	od
}

active proctype owner()
{
	byte n = 0, v, limit, seen, k, g;
	bool l, fence;

	do
	:: n == 2 -> break
	:: n < 2 ->
		n++;
		fence = false;
		limit = MESSAGES;
		g = generation;
		l = listed;
		if
		:: l ->
			seen = cursor;
			if
			:: seen == NONE ->
#ifndef NO_UNJOINED_FENCE
				fence = true;
#endif
				skip
			:: seen != NONE && seen < limit -> limit = seen
			:: else
			fi;
			if
			:: seen != NONE && tail > seen -> fence = true
			:: else
			fi
		:: else
		fi;
		if
		:: limit > tail -> tail = limit
		:: else
		fi;
#ifndef NO_SECOND_LOOK
		if
		:: generation != g -> fence = true; l = listed
		:: else
		fi;
#endif
		if
		:: fence -> atomic { settle() }
		:: else
		fi;
		k = 0;
		do
		:: k == tail -> break
		:: k < tail ->
			if
			:: !(l && hold == k) -> freed[k] = true
			:: else
			fi;
			k++
		od
	od
}
