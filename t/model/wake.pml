/*
 * wake.pml - sleepers and ringers of one bell, zcp-design(7).
 *
 * PUBLISHERS publish MESSAGES each; SLEEPERS wait until they have seen all.  A
 * publisher's stamp goes through its store buffer; the bell is one word, of two
 * marks and a count, that the kernel compares when one goes to sleep.  One of
 * the sleepers may be killed anywhere.  Spin looks for a state in which all
 * stand still and a sleeper has not seen everything.
 *
 * Mutations: NO_FENCE, NO_LOOK, NO_COUNT, RING_FIRST, TWO_STEPS, TRUST_MARK,
 * FENCED_FIRST, FENCED_ANYHOW, KEEP_FENCED
 */
#define PUBLISHERS 2
#define SLEEPERS 2
#ifndef MESSAGES
#define MESSAGES 1
#endif

byte stamp[PUBLISHERS];
chan buffer[PUBLISHERS] = [MESSAGES] of { byte };
bool marked, fenced;
byte count;
bool asleep[SLEEPERS], killed;

inline settle(p)
{
	do
	:: buffer[p] ? v -> stamp[p] = v
	:: empty(buffer[p]) -> break
	od
}

active [PUBLISHERS] proctype store_buffer()
{
	byte p = _pid, v;
end:	do
	:: atomic { buffer[p] ? v -> stamp[p] = v }
	od
}

#define may_die (s == 1 && !killed)
inline die_perhaps()
{
	if
	:: may_die -> killed = true; goto dead
	:: skip
	fi
}

inline wake_all() { d_step { asleep[0] = false; asleep[1] = false } }

inline ring()
{
	do
	:: !marked -> break
	:: marked ->
		d_step { c = count; f = fenced };
		/* An operation that reads and writes: the buffer is emptied. */
#ifdef TWO_STEPS
		atomic { settle(p); count++ };
		atomic { settle(p); marked = false; fenced = false };
		wake_all();
		break
#else
		atomic {
			settle(p);
			if
			:: marked && count == c && fenced == f ->
#ifndef NO_COUNT
				count++;
#endif
#ifndef KEEP_FENCED
				fenced = false;
#endif
				marked = false; won = true
			:: else -> won = false
			fi
		};
		if
		:: won -> wake_all(); break
		:: else
		fi
#endif
	od
}

active [PUBLISHERS] proctype publisher()
{
	byte p = _pid - PUBLISHERS, n = 0, c, v;
	bool won, f;

	do
	:: n == MESSAGES -> break
	:: n < MESSAGES ->
		n++;
#ifdef RING_FIRST
		ring();
		buffer[p] ! n
#else
		buffer[p] ! n;
		ring()
#endif
	od
}

active [SLEEPERS] proctype sleeper()
{
	byte s = _pid - 2 * PUBLISHERS, c, v, p;
	byte seen[PUBLISHERS];
	bool f;

	do
	:: seen[0] == MESSAGES && seen[1] == MESSAGES -> break
	:: may_die -> killed = true; break
	:: stamp[0] > seen[0] -> seen[0] = stamp[0]
	:: stamp[1] > seen[1] -> seen[1] = stamp[1]
	:: stamp[0] == seen[0] && stamp[1] == seen[1] &&
	   !(seen[0] == MESSAGES && seen[1] == MESSAGES) ->
		/* Also an operation that reads and writes. */
#ifdef TRUST_MARK
		atomic { f = marked; marked = true; c = count };
#else
		atomic { marked = true; c = count; f = fenced };
#endif
		die_perhaps();
#ifdef FENCED_FIRST
		atomic {
			if
			:: !f && marked && count == c -> fenced = true
			:: else
			fi
		};
#endif
		if
		:: f
		:: else ->
#ifndef NO_FENCE
			/* One publisher after the other is interrupted. */
			atomic { p = 0; settle(p) };
			atomic { p = 1; settle(p) };
#endif
			die_perhaps();
			atomic {
				if
#ifdef FENCED_ANYHOW
				:: fenced = true
#else
				:: marked && count == c -> fenced = true
				:: else
#endif
				fi;
				f = true
			}
		fi;
		die_perhaps();
#ifndef NO_LOOK
		if
		:: stamp[0] > seen[0] || stamp[1] > seen[1] -> goto awake
		:: else
		fi;
#endif
		/* The kernel compares, and puts to sleep, in one step. */
		atomic {
			if
			:: marked && count == c && fenced == f -> asleep[s] = true
			:: else -> goto awake
			fi
		};
		if
		:: !asleep[s]
		:: may_die -> killed = true; goto dead
		fi;
awake:		skip
	od;
dead:	skip
}
