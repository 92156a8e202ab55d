#include "tracer.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../run.h"

#define MARK SIGUSR1
#define CALL_STOP (SIGTRAP | 0x80)

void victim_mark(void)
{
	syscall(SYS_tgkill, getpid(), gettid(), MARK);
}

static bool is_new_thread(const struct victim *v, pid_t tid)
{
	for (unsigned i = 0; i < v->threads; i++)
		if (v->thread[i] == tid)
			return false;
	return true;
}

static void add_thread(struct victim *v, pid_t tid)
{
	ck_assert_uint_lt(v->threads, sizeof(v->thread) / sizeof(v->thread[0]));
	v->thread[v->threads++] = tid;
}

static void go_on(pid_t tid, int request, int signal)
{
	/* It may have been killed meanwhile. */
	if (ptrace(request, tid, NULL, (void *)(intptr_t)signal) < 0)
		ck_assert_int_eq(errno, ESRCH);
}

/* News of another thread than the first one: it goes on. */
static void other_thread(struct victim *v, pid_t tid, int status)
{
	if (!WIFSTOPPED(status)) {
		if (is_new_thread(v, tid)) {
			v->stranger = tid;
			v->stranger_status = status;
		}
		return;
	}
	if (is_new_thread(v, tid))
		add_thread(v, tid);
	/* The SIGSTOP with which a traced thread begins is not its own. */
	go_on(tid, PTRACE_CONT, WSTOPSIG(status) == SIGSTOP ||
	    WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
}

/* Until the first thread has stopped or ended; its wait status. */
static int await(struct victim *v)
{
	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0 && errno == EINTR)
			continue;
		ck_assert_msg(tid > 0, "waitpid: %s", strerror(errno));
		if (tid != v->pid) {
			other_thread(v, tid, status);
			if (v->stranger != 0 && !v->ended)
				return 0;
			continue;
		}
		if (!WIFSTOPPED(status)) {
			v->ended = true;
			v->status = status;
			return status;
		}
		return status;
	}
}

/* Goes on by `request`; false: at a mark, or at its end. */
static bool advance(struct victim *v, int request)
{
	int signal = 0;

	for (;;) {
		int status;

		go_on(v->pid, request, signal);
		status = await(v);
		if (v->ended || v->stranger != 0)
			return false;
		signal = WSTOPSIG(status);
		if (signal == MARK)
			return false;
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8)) {
			unsigned long tid;

			/* It has made a thread, which may have ended since. */
			if (ptrace(PTRACE_GETEVENTMSG, v->pid, NULL, &tid) == 0
			    && is_new_thread(v, (pid_t)tid))
				add_thread(v, (pid_t)tid);
			signal = 0;
			continue;
		}
		if (signal == SIGTRAP || signal == CALL_STOP)
			return true;
		if (signal == SIGSTOP)
			signal = 0;
	}
}

void victim_start(struct victim *v, void (*role)(void *), void *arg)
{
	int status;

	*v = (struct victim){ 0 };
	fflush(NULL);
	v->pid = fork();
	ck_assert_int_ge(v->pid, 0);
	if (v->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		role(arg);
		_exit(0);
	}
	add_thread(v, v->pid);
	status = await(v);
	ck_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, v->pid, NULL,
	    (void *)(intptr_t)(PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD |
	    PTRACE_O_EXITKILL)), 0);
	victim_run(v);
	ck_assert_msg(!v->ended, "the victim ended with %#x before its mark",
	    v->status);
}

bool victim_step(struct victim *v)
{
	return advance(v, PTRACE_SINGLESTEP);
}

/* ---- breakpoints -------------------------------------------------------------- */

#if defined(__x86_64__)
#define PC rip
#define RESULT rax
#define TRAP_MASK UINT64_C(0xff)
#define TRAP UINT64_C(0xcc)			/* int3 */
#define TRAP_SIZE 1				/* the pc is behind it then */
#elif defined(__aarch64__)
#define PC pc
#define RESULT regs[0]
#define TRAP_MASK UINT64_C(0xffffffff)
#define TRAP UINT64_C(0xd4200000)		/* brk #0 */
#define TRAP_SIZE 0
#endif

static void registers(struct victim *v, struct user_regs_struct *regs,
    bool write)
{
	struct iovec io = { regs, sizeof(*regs) };

	ck_assert_int_eq(ptrace(write ? PTRACE_SETREGSET : PTRACE_GETREGSET,
	    v->pid, (void *)(intptr_t)NT_PRSTATUS, &io), 0);
}

static uint64_t pc_of(struct victim *v)
{
	struct user_regs_struct regs;

	registers(v, &regs, false);
	return regs.PC;
}

static void poke(struct victim *v, uint64_t at, uint64_t word)
{
	ck_assert_int_eq(ptrace(PTRACE_POKETEXT, v->pid, (void *)at,
	    (void *)word), 0);
}

/* Runs until it is about to execute `at`; false: as victim_step(). */
static bool run_to(struct victim *v, uint64_t at)
{
	struct user_regs_struct regs;
	uint64_t word;
	bool there;

	errno = 0;
	word = (uint64_t)ptrace(PTRACE_PEEKTEXT, v->pid, (void *)at, NULL);
	ck_assert_int_eq(errno, 0);
	/* Its other threads must not run into what is not for them. */
	victim_freeze(v);
	poke(v, at, (word & ~TRAP_MASK) | TRAP);
	there = advance(v, PTRACE_CONT);
	if (v->ended)
		return false;
	poke(v, at, word);
	victim_thaw(v);
	if (!there)
		return false;
	registers(v, &regs, false);
	ck_assert_uint_eq(regs.PC, at + TRAP_SIZE);
	regs.PC = at;
	registers(v, &regs, true);
	return true;
}

unsigned victim_trace(struct victim *v, uint64_t **pcs)
{
	unsigned n = 0, room = 0;

	*pcs = NULL;
	do {
		if (n == room) {
			room = room ? 2 * room : 1024;
			*pcs = realloc(*pcs, room * sizeof(**pcs));
			ck_assert_ptr_nonnull(*pcs);
		}
		(*pcs)[n++] = pc_of(v);
	} while (victim_step(v));
	return n;
}

static bool is_new(const uint64_t *pcs, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (pcs[k] == pcs[i])
			return false;
	return true;
}

bool victim_step_many(struct victim *v, unsigned count, const uint64_t *pcs,
    unsigned known)
{
	unsigned at = count < known ? count : known - 1;

	while (at > 0 && !is_new(pcs, at))
		at--;
	if (at > 0 && !run_to(v, pcs[at]))
		return false;
	for (; at < count; at++)
		if (!victim_step(v))
			return false;
	return true;
}

bool victim_step_call(struct victim *v)
{
	return advance(v, PTRACE_SYSCALL);
}

void victim_run(struct victim *v)
{
	while (advance(v, PTRACE_CONT))
		;
}

void victim_let_go(struct victim *v)
{
	go_on(v->pid, PTRACE_CONT, 0);
}

void victim_halt(struct victim *v)
{
	int status;

	syscall(SYS_tgkill, v->pid, v->pid, MARK);
	do {
		status = await(v);
		ck_assert_msg(!v->ended && v->stranger == 0, "the victim, or "
		    "another process, ended with %#x", status);
		if (WSTOPSIG(status) != MARK)
			go_on(v->pid, PTRACE_CONT, 0);
	} while (WSTOPSIG(status) != MARK);
}

/* ---- system calls ------------------------------------------------------------- */

bool victim_call(struct victim *v, struct call *call)
{
	struct __ptrace_syscall_info info;

	ck_assert_int_gt(ptrace(PTRACE_GET_SYSCALL_INFO, v->pid,
	    (void *)sizeof(info), &info), 0);
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	call->number = (long)info.entry.nr;
	memcpy(call->arg, info.entry.args, sizeof(call->arg));
	return true;
}

/* The call that is about to be made becomes none. */
static void forget_call(struct victim *v)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;

	registers(v, &regs, false);
	regs.orig_rax = (unsigned long long)-1;
	registers(v, &regs, true);
#elif defined(__aarch64__)
	int none = -1;
	struct iovec io = { &none, sizeof(none) };

	ck_assert_int_eq(ptrace(PTRACE_SETREGSET, v->pid,
	    (void *)(intptr_t)NT_ARM_SYSTEM_CALL, &io), 0);
#endif
}

bool victim_fail_call(struct victim *v, int error)
{
	struct user_regs_struct regs;

	forget_call(v);
	if (!victim_step_call(v))
		return false;
	registers(v, &regs, false);
	regs.RESULT = (unsigned long long)-error;
	registers(v, &regs, true);
	return true;
}

void victim_text(struct victim *v, uint64_t at, char *text, size_t size)
{
	struct iovec to = { text, size - 1 }, from = { (void *)at, size - 1 };
	ssize_t n = process_vm_readv(v->pid, &to, 1, &from, 1, 0);

	/* It may lie at the end of a mapping. */
	for (; n < 0 && from.iov_len > 1; n = process_vm_readv(v->pid, &to, 1,
	    &from, 1, 0))
		from.iov_len /= 2;
	text[n < 0 ? 0 : n] = '\0';
}

void victim_freeze(struct victim *v)
{
	for (unsigned i = 1; i < v->threads; i++) {
		int status;

		if (syscall(SYS_tgkill, v->pid, v->thread[i], SIGSTOP) < 0)
			continue;
		ck_assert_int_eq(waitpid(v->thread[i], &status, __WALL),
		    v->thread[i]);
		ck_assert(WIFSTOPPED(status));
	}
}

void victim_thaw(struct victim *v)
{
	for (unsigned i = 1; i < v->threads; i++)
		go_on(v->thread[i], PTRACE_CONT, 0);
}

void victim_kill(struct victim *v)
{
	if (v->ended)
		return;
	kill(v->pid, SIGKILL);
	while (!v->ended)
		await(v);
}
