/*
 * atomics.h - the only place where shared words are read and written.
 *
 * Each function is one access of the protocol and names its order, its
 * partner, and what breaks without it.  The protocol as a whole is told in
 * zcp-design(7).  Source of the slot's protocol: Lamport's sequence lock in
 * Boehm's C11 form ("Can seqlocks get along with programming language memory
 * models?", 2012); of hold-then-validate: Michael's hazard pointers (2004);
 * of the asymmetric fence: Linux membarrier(2), as in liburcu.
 */
#ifndef ZCP_ATOMICS_H
#define ZCP_ATOMICS_H

#include <linux/membarrier.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

/* ---- the accesses themselves ----------------------------------------------
 *
 * A test build (t/torture) puts its own in their place: there each is a step
 * at which another role may go on, a store may be seen late, and a process
 * may end.  ThreadSanitizer knows no fences: for it the words of a slot, which
 * the fences order, are ordered themselves.
 */
#ifdef ZCP_STEPPED
#include "stepped.h"
#else
#define shared_load(word, order) atomic_load_explicit(word, order)
#define shared_store(word, value, order)				\
	atomic_store_explicit(word, value, order)
#define shared_or(word, bits, order)					\
	atomic_fetch_or_explicit(word, bits, order)
#define shared_and(word, bits, order)					\
	atomic_fetch_and_explicit(word, bits, order)
#define shared_cas(word, from, to, order, failure)			\
	atomic_compare_exchange_strong_explicit(word, from, to, order, failure)
#define shared_fence(order) atomic_thread_fence(order)
#define shared_compiler_fence()						\
	atomic_signal_fence(memory_order_seq_cst)
#define shared_membarrier()						\
	syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)
#endif

#ifdef __SANITIZE_THREAD__
#define SLOT_LOAD memory_order_acquire
#define SLOT_STORE memory_order_release
#else
#define SLOT_LOAD memory_order_relaxed
#define SLOT_STORE memory_order_relaxed
#endif

/* ---- fences ------------------------------------------------------------ */

/*
 * Light: the frequent side (publisher before it looks at a bell, reader
 * between its hold and its look at the tail).  The rare side's heavy fence
 * makes every registered processor pass a full fence, so here it is enough
 * that the compiler keeps the order.  In a symmetric domain both are full.
 */
static inline void fence_light(bool symmetric)
{
	if (__builtin_expect(symmetric, 0))
		shared_fence(memory_order_seq_cst);
	else
		shared_compiler_fence();
}

/*
 * Between a CAS on the tail and a look at the generation; pairs with the
 * joining reader's heavy fence.  arm64 could serve the load before the CAS is
 * seen; once a batch, so its cost does not matter.
 */
static inline void fence_full(void)
{
	shared_fence(memory_order_seq_cst);
}

/* 0, or -1 when the kernel refused: then nothing may be concluded. */
static inline int fence_heavy(bool symmetric)
{
	shared_fence(memory_order_seq_cst);
	if (symmetric)
		return 0;
	return shared_membarrier() ? -1 : 0;
}

/* Must precede the first mapping: a process that is not registered is not
 * fenced, and its holds could be overlooked. */
static inline int fence_register(void)
{
	return syscall(__NR_membarrier,
	    MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) ? -1 : 0;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/*
 * The line of `p` comes to be written soon, alone: while other stores go on.
 * A hint, which changes nothing.  Compilers for x86-64 in general know no
 * prefetchw and would fetch the line to be read; it is there since 2014, and
 * does nothing on processors without it.
 */
static inline void line_wanted(const void *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/* ---- plain news: counters, heartbeats, sizes; order carries nothing ----- */

static inline uint64_t news_load(const shared_u64 *word)
{
	return shared_load((shared_u64 *)word, memory_order_relaxed);
}

static inline void news_store(shared_u64 *word, uint64_t value)
{
	shared_store(word, value, memory_order_relaxed);
}

static inline uint32_t news_load32(const shared_u32 *word)
{
	return shared_load((shared_u32 *)word, memory_order_relaxed);
}

static inline void news_store32(shared_u32 *word, uint32_t value)
{
	shared_store(word, value, memory_order_relaxed);
}

/* One writer, so a load and a store make no lost update. */
static inline void news_add(shared_u64 *word, uint64_t n)
{
	news_store(word, news_load(word) + n);
}

/*
 * A field of a record that never changes while its state and serial stay: one
 * load, so that what is checked is what is used, though damage may change it
 * in between.
 */
#define once(field) (*(const volatile __typeof__(field) *)&(field))

/* ---- facts: stored when complete, believed when loaded ------------------ */

/*
 * Pairs with fact_publish*(): who sees the value sees all that was written
 * before it (records of the directory, magic, chunk count, closed mark).
 * Without it a half-written record could be believed.
 */
static inline uint64_t fact_load(const shared_u64 *word)
{
	return shared_load((shared_u64 *)word, memory_order_acquire);
}

static inline uint32_t fact_load32(const shared_u32 *word)
{
	return shared_load((shared_u32 *)word, memory_order_acquire);
}

static inline void fact_publish(shared_u64 *word, uint64_t value)
{
	shared_store(word, value, memory_order_release);
}

static inline void fact_publish32(shared_u32 *word, uint32_t value)
{
	shared_store(word, value, memory_order_release);
}

/*
 * Between reading a list and loading its generation again; pairs with the
 * release fence in fact_change().  Without it the second look could be
 * served before the reads that it is to vouch for.
 */
static inline void fact_recheck(void)
{
	shared_fence(memory_order_acquire);
}

/*
 * Writer's side: what follows must not be seen before the generation stored
 * just now.  Pairs with fact_recheck().
 */
static inline void fact_change(shared_u64 *generation)
{
	shared_store(generation, news_load(generation) + 1,
	    memory_order_release);
	shared_fence(memory_order_release);
}

/* ---- slot --------------------------------------------------------------- */

/*
 * Before a slot is rewritten.  The store is a release so that a reader that
 * sees it (acquire, slot_stamp) also sees the tail beyond the old message
 * and counts its loss right; the fence keeps the words that follow behind
 * it, pairing with slot_recheck(): without it a reader could copy half of
 * the new message between two looks at the old stamp.
 */
static inline void slot_begin(struct slot *slot, uint64_t seq)
{
	shared_store(&slot->stamp, STAMP_BUSY | (seq + 1),
	    memory_order_release);
	shared_fence(memory_order_release);
}

/* Relaxed: the stamps on either side order the words of a slot. */
static inline void slot_put(shared_u64 *word, uint64_t value)
{
	shared_store(word, value, SLOT_STORE);
}

static inline uint64_t slot_get(const shared_u64 *word)
{
	return shared_load((shared_u64 *)word, SLOT_LOAD);
}

/*
 * Pairs with slot_stamp(): who sees seq + 1 sees the whole slot, the chunk's
 * word and its payload.  Killed above this line, the slot shows BUSY and the
 * message was never published.
 */
static inline void slot_complete(struct slot *slot, uint64_t seq)
{
	shared_store(&slot->stamp, seq + 1, memory_order_release);
}

static inline uint64_t slot_stamp(const struct slot *slot)
{
	return shared_load((shared_u64 *)&slot->stamp,
	    memory_order_acquire);
}

/*
 * After the copies, before the tail is looked at; pairs with the fence in
 * slot_begin(): who copied a word of a later message sees the tail beyond the
 * one before it.  Without it half of another message could be believed.
 */
static inline void slots_copied(void)
{
	shared_fence(memory_order_acquire);
}

/* After the copy; pairs with the fence in slot_begin(). */
static inline uint64_t slot_recheck(const struct slot *slot)
{
	shared_fence(memory_order_acquire);
	return shared_load((shared_u64 *)&slot->stamp,
	    memory_order_relaxed);
}

/* ---- head --------------------------------------------------------------- */

/*
 * Release, pairs with head_load(): who moves the tail of a ring that is not its
 * own goes as far as the head says, and then others take for granted that all
 * before the tail was stamped; see tail_possible().
 */
static inline void head_store(struct ring *ring, uint64_t head)
{
	shared_store(&ring->head, head, memory_order_release);
}

static inline uint64_t head_load(const struct ring *ring)
{
	return shared_load((shared_u64 *)&ring->head, memory_order_acquire);
}

/* ---- tail --------------------------------------------------------------- */

/*
 * Acquire: the owner must not rewrite a slot before it has seen the tail
 * beyond it, whoever moved it; pairs with tail_move().
 */
static inline uint64_t tail_load(const struct ring *ring)
{
	return shared_load((shared_u64 *)&ring->tail,
	    memory_order_acquire);
}

/*
 * Owner, daemon and zcp-gc move it, each by a CAS from what it has judged,
 * so it never goes back.  Release: the cursors that allowed it were read
 * before.  The store is followed by a heavy fence before holds are believed.
 */
static inline bool tail_move(struct ring *ring, uint64_t *from, uint64_t to)
{
	return shared_cas(&ring->tail, from, to,
	    memory_order_acq_rel, memory_order_acquire);
}

/* A ring's place is given a new owner: stamps are cleared after this, so the
 * old port's readers find a foreign serial before they find a foreign slot. */
static inline void tail_found(struct ring *ring, uint64_t word)
{
	shared_store(&ring->tail, word, memory_order_release);
	shared_fence(memory_order_release);
}

/*
 * The reader's second look, after its hold (reader, light fence; reclaimer,
 * tail_move() and heavy fence): either it sees the tail moved, or the
 * reclaimer sees the hold.  Acquire: payload reads stay behind it.
 */
static inline uint64_t tail_validate(const struct ring *ring)
{
	return tail_load(ring);
}

/* ---- cursor and holds ---------------------------------------------------- */

/*
 * Release, pairs with cursor_load(): a reclaimer that sees the cursor beyond
 * a message sees the hold on it (or sees it cleared).  Without it a chunk
 * that is being read looks neither waited for nor held.
 */
static inline void cursor_store(struct cursor *cursor, uint64_t word)
{
	shared_store(&cursor->at, word, memory_order_release);
}

static inline uint64_t cursor_load(const struct cursor *cursor)
{
	return shared_load((shared_u64 *)&cursor->at,
	    memory_order_acquire);
}

/*
 * The id first, then its bit (release): who sees the bit sees the id.  The id
 * is a release too: a scanner that still sees the bit of the entry's last
 * use, and this id, must know that the reads under that use are over.
 */
static inline void hold_show(struct cursor *cursor, unsigned i, uint32_t chunk)
{
	shared_u64 *used = &cursor->used[i / 64];

	shared_store(&cursor->hold[i], chunk, memory_order_release);
	shared_store(used,
	    shared_load(used, memory_order_relaxed) |
	    UINT64_C(1) << i % 64, memory_order_release);
}

/*
 * Release, pairs with holds_load(): who sees the bit gone may let the chunk
 * be overwritten, and the reads of it are over.
 */
static inline void hold_clear(struct cursor *cursor, unsigned i)
{
	shared_u64 *used = &cursor->used[i / 64];

	shared_store(used,
	    shared_load(used, memory_order_relaxed) &
	    ~(UINT64_C(1) << i % 64), memory_order_release);
}

/*
 * The last word on a ring, in the file of a reader that has not let it go.
 * Release, pairs with over_load(): the tail has gone to that end before, so
 * that a reader that sees the word takes nothing more of the ring; and the port
 * is forgotten after it, so that a reader that finds the port or its ring gone
 * sees the word.  Without it what that reader had not taken would be lost
 * untold.
 */
static inline void over_store(shared_u64 *over, uint64_t word)
{
	shared_store(over, word, memory_order_release);
}

static inline uint64_t over_load(const shared_u64 *over)
{
	return shared_load((shared_u64 *)over, memory_order_acquire);
}

static inline uint64_t holds_load(const struct cursor *cursor, unsigned word)
{
	return shared_load((shared_u64 *)&cursor->used[word],
	    memory_order_acquire);
}

static inline uint32_t hold_chunk(const struct cursor *cursor, unsigned i)
{
	return shared_load((shared_u32 *)&cursor->hold[i],
	    memory_order_acquire);
}

/* ---- chunk words --------------------------------------------------------- */

/* Acquire, pairs with word_change() and word_publish(). */
static inline uint64_t word_load(const shared_u64 *word)
{
	return shared_load((shared_u64 *)word, memory_order_acquire);
}

/*
 * The one way in which a chunk changes hands, from exactly the word that was
 * judged.  Acquire: the last user's accesses are over.  Release: ours are,
 * for the next one.
 */
static inline bool word_change(shared_u64 *word, uint64_t from, uint64_t to)
{
	return shared_cas(word, &from, to,
	    memory_order_acq_rel, memory_order_acquire);
}

/* LOANED -> PUBLISHED by the live owner, whose word nobody else may change.
 * Release: a sweeper that sees it sees the port and its ring. */
static inline void word_publish(shared_u64 *word, uint64_t value)
{
	shared_store(word, value, memory_order_release);
}

/* After a loan: the chunk's word is ours before any payload byte changes, so
 * that a tap that copied the old message finds the tail moved. */
static inline void loan_fence(void)
{
	shared_fence(memory_order_release);
}

/* Hints are wrong both ways; only the words decide. */
static inline uint64_t hint_load(const shared_u64 *hint)
{
	return shared_load((shared_u64 *)hint, memory_order_relaxed);
}

static inline void hint_set(shared_u64 *hint, uint64_t bits)
{
	shared_or(hint, bits, memory_order_relaxed);
}

static inline void hint_unset(shared_u64 *hint, uint64_t bits)
{
	shared_and(hint, ~bits, memory_order_relaxed);
}

/* ---- bells and wants ------------------------------------------------------ */

static inline uint32_t bell_load(const struct bell *bell)
{
	return shared_load((shared_u32 *)&bell->word,
	    memory_order_relaxed);
}

/* The word of a bell that is not marked, as its ringers advance it whoever
 * sleeps.  Acquire: the look for news comes after it, or a ring in between would
 * be slept through; pairs with bell_advance(). */
static inline uint32_t bell_load_unmarked(const struct bell *bell)
{
	return shared_load((shared_u32 *)&bell->word, memory_order_acquire);
}

/* How often it was rung, as far as a word says. */
static inline uint32_t bell_rung(uint32_t word)
{
	return word / BELL_STEP;
}

/*
 * The sleeper's mark; a heavy fence follows, then its last look at the rings.
 * Returns the word to sleep on.  Acquire: where that says BELL_FENCED, what the
 * fence of the other sleeper made visible is visible here, and that fence
 * serves; pairs with bell_fenced().
 */
static inline uint32_t bell_mark(struct bell *bell)
{
	return shared_or(&bell->word, BELL_SLEEPER,
	    memory_order_acquire) | BELL_SLEEPER;
}

/*
 * After the heavy fence that followed the mark.  Only the word that was marked:
 * one rung since has a mark, if any, that no fence has followed.  Release: pairs
 * with bell_mark().  Returns the word to sleep on, which a bell that was rung
 * no longer has.
 */
static inline uint32_t bell_fenced(struct bell *bell, uint32_t marked)
{
	uint32_t fenced = marked | BELL_FENCED, now = marked;

	return shared_cas(&bell->word, &now, fenced, memory_order_release,
	    memory_order_relaxed) || now == fenced ? fenced : marked;
}

/*
 * Count on and clear the marks in one step: separate steps lose the sleeper
 * that marks between them.  True when this caller did it and must wake.
 */
static inline bool bell_advance(struct bell *bell, uint32_t seen)
{
	return shared_cas(&bell->word, &seen,
	    (seen + BELL_STEP) & ~(BELL_SLEEPER | BELL_FENCED),
	    memory_order_release, memory_order_relaxed);
}

static inline uint64_t want_load(const struct ring *ring)
{
	return shared_load((shared_u64 *)&ring->want,
	    memory_order_relaxed);
}

/* A heavy fence follows before the owner looks at the cursors once more. */
static inline void want_store(struct ring *ring, uint64_t want)
{
	shared_store(&ring->want, want, memory_order_relaxed);
}

#endif
