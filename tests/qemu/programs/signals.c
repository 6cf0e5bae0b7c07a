/* Signals: handlers, masks, alternate stacks, faults with their address, changed contexts, restarts, vector registers. */
#include "check.h"

static volatile sig_atomic_t nr_usr1, nr_chld, last_code;
static volatile uintptr_t fault_addr;
static volatile int on_alt;
static sigjmp_buf back;
static char alt[64 * 1024];

static void on_usr1(int s) { nr_usr1 += s == SIGUSR1; }
static void on_info(int s, siginfo_t *info, void *c) {
    (void)c;
    CHECK(info->si_signo == s);
    last_code = info->si_code;
    nr_chld += s == SIGCHLD;
}
static void on_fault(int s, siginfo_t *info, void *c) {
    (void)s;
    ucontext_t *context = c;
    char here;
    fault_addr = (uintptr_t)info->si_addr;
    last_code = info->si_code;
    on_alt = &here >= alt && &here < alt + sizeof alt;
    CHECK(context->uc_mcontext.gregs[REG_CR2] == (greg_t)fault_addr || s != SIGSEGV);
    siglongjmp(back, s);
}
/* Skips the two bytes of ud2, as a language runtime moves on after its own traps. */
static void on_ill(int s, siginfo_t *info, void *c) {
    ucontext_t *context = c;
    CHECK(s == SIGILL && (uintptr_t)info->si_addr == (uintptr_t)context->uc_mcontext.gregs[REG_RIP]);
    context->uc_mcontext.gregs[REG_RIP] += 2;
    context->uc_mcontext.gregs[REG_RBX] = 4711;
}

static void handle(int s, void (*f)(int, siginfo_t *, void *), int flags) {
    struct sigaction a = {0};
    a.sa_sigaction = f;
    a.sa_flags = SA_SIGINFO | flags;
    CHECK(sigaction(s, &a, NULL) == 0);
}

static void check_faults(void) {
    handle(SIGSEGV, on_fault, SA_ONSTACK);
    handle(SIGBUS, on_fault, SA_ONSTACK);
    handle(SIGFPE, on_fault, SA_ONSTACK);
    stack_t stack = {.ss_sp = alt, .ss_size = sizeof alt}, old;
    CHECK(sigaltstack(&stack, NULL) == 0);
    volatile char *nowhere = (char *)0x123000;
    if (sigsetjmp(back, 1) == 0) {
        *nowhere = 1;
        CHECK(!"reached");
    }
    CHECK(fault_addr == 0x123000 && last_code == SEGV_MAPERR && on_alt);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)(page + 5) = 1;
        CHECK(!"reached");
    }
    CHECK(fault_addr == (uintptr_t)page + 5 && last_code == SEGV_ACCERR);
    volatile int zero = 0;
    if (sigsetjmp(back, 1) == 0) {
        zero = 7 / zero;
        CHECK(!"reached");
    }
    CHECK(last_code == FPE_INTDIV);
    int fd = open("/tmp/short", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    char *file = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(file != MAP_FAILED && file[0] == 'x');
    if (sigsetjmp(back, 1) == 0) {
        CHECK(file[4096] == 'y');
        CHECK(!"reached");
    }
    CHECK(fault_addr == (uintptr_t)file + 4096 && last_code == BUS_ADRERR);
    CHECK(sigaltstack(NULL, &old) == 0 && old.ss_flags == 0 && old.ss_sp == alt);
    close(fd);
    handle(SIGILL, on_ill, 0);
    long rbx = 0;
    asm volatile("xor %%ebx, %%ebx\n ud2\n mov %%rbx, %0" : "=r"(rbx) : : "rbx");
    CHECK(rbx == 4711);
}

static void check_masks(void) {
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signal(SIGUSR1, on_usr1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    CHECK(raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0);
    CHECK(nr_usr1 == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK(nr_usr1 >= 1);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    kill(getpid(), SIGUSR1);
    siginfo_t info;
    CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_USER && info.si_pid == getpid());
    struct timespec soon = {0, 5000000};
    CHECK(sigtimedwait(&set, &info, &soon) == -1 && errno == EAGAIN);
    union sigval value = {.sival_int = 99};
    int rt = SIGRTMIN + 2;
    sigemptyset(&set);
    sigaddset(&set, rt);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(sigqueue(getpid(), rt, value) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(sigtimedwait(&set, &info, &soon) == rt && info.si_value.sival_int == 99 && info.si_code == SI_QUEUE);
    CHECK(sigtimedwait(&set, &info, &soon) == -1);
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static int ends[2];
static pthread_t main_thread;
static void *poke(void *arg) {
    usleep(20000);
    pthread_kill(main_thread, SIGUSR1);
    usleep(20000);
    if (arg)
        CHECK(write(ends[1], "z", 1) == 1);
    return NULL;
}

static void check_restart(void) {
    char c;
    pthread_t t;
    main_thread = pthread_self();
    CHECK(pipe(ends) == 0);
    struct sigaction a = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &a, NULL);
    nr_usr1 = 0;
    pthread_create(&t, NULL, poke, ends);
    CHECK(read(ends[0], &c, 1) == 1 && c == 'z' && nr_usr1 == 1);
    pthread_join(t, NULL);
    a.sa_flags = 0;
    sigaction(SIGUSR1, &a, NULL);
    pthread_create(&t, NULL, poke, NULL);
    CHECK(read(ends[0], &c, 1) == -1 && errno == EINTR);
    pthread_join(t, NULL);
    pthread_create(&t, NULL, poke, NULL);
    struct timespec wait = {5, 0}, left = {0, 0};
    double before = seconds();
    CHECK(nanosleep(&wait, &left) == -1 && errno == EINTR);
    double rest = (double)left.tv_sec + (double)left.tv_nsec / 1e9;
    CHECK(rest > 0 && rest < 5 && seconds() - before + rest > 4.999);
    pthread_join(t, NULL);
    signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE);
    close(ends[1]);
}

/* A handler that ruins every vector register; the interrupted code must not notice. */
static void ruin(int s) {
    (void)s;
    asm volatile("pcmpeqd %%xmm0, %%xmm0\n movdqa %%xmm0, %%xmm1\n movdqa %%xmm0, %%xmm15\n" ::: "xmm0", "xmm1", "xmm15");
    nr_usr1++;
}
static void check_registers(void) {
    struct sigaction a = {.sa_handler = ruin};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval every = {{0, 2000}, {0, 2000}};
    nr_usr1 = 0;
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    double until = seconds() + 10;
    while (nr_usr1 < 5 && seconds() < until) {
        uint64_t low, high, r15;
        asm volatile("mov $0x1234, %%eax\n movq %%rax, %%xmm1\n mov $0x9876, %%eax\n movq %%rax, %%xmm15\n"
                     "mov $0x777, %%r15\n mov $20000, %%ecx\n 1: dec %%ecx\n jnz 1b\n"
                     "movq %%xmm1, %0\n movq %%xmm15, %1\n mov %%r15, %2"
                     : "=r"(low), "=r"(high), "=r"(r15)
                     :
                     : "rax", "rcx", "r15", "xmm1", "xmm15", "cc");
        CHECK(low == 0x1234 && high == 0x9876 && r15 == 0x777);
    }
    struct itimerval off = {0};
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK(nr_usr1 >= 5);
}

int main(void) {
    check_faults();
    check_masks();
    check_restart();
    check_registers();
    handle(SIGCHLD, on_info, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    int status;
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3 && nr_chld == 1 && last_code == CLD_EXITED);
    child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL);
        for (;;)
            pause();
    }
    CHECK(kill(child, SIGTERM) == 0);
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile int *)(uintptr_t)getppid() = 1;
    }
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    /* Busy code must be reached too. */
    child = fork();
    if (child == 0)
        for (;;)
            asm volatile("");
    usleep(10000);
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) != child)
        CHECK(errno == EINTR);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    PASSED();
}
