/* poll, select, epoll, eventfd, timerfd, timers, clocks, pipes under load. */
#include "check.h"

static volatile int nr_alarms;
static void on_alarm(int s) { nr_alarms += s == SIGALRM; }
static int ends[2];
static void *later(void *arg) {
    usleep(20000);
    CHECK(write((int)(long)arg, "12345678", 8) == 8);
    return NULL;
}
static void *pour(void *arg) {
    char block[1000];
    memset(block, 'p', sizeof block);
    for (int i = 0; i < 500; i++)
        CHECK(write((int)(long)arg, block, sizeof block) == sizeof block);
    close((int)(long)arg);
    return NULL;
}

int main(void) {
    char buf[70000];
    pthread_t t;
    CHECK(pipe(ends) == 0);
    struct pollfd p[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
    CHECK(poll(p, 2, 0) == 1 && p[0].revents == 0 && p[1].revents == POLLOUT);
    double start = seconds();
    CHECK(poll(p, 1, 30) == 0 && seconds() - start >= 0.029);
    pthread_create(&t, NULL, later, (void *)(long)ends[1]);
    CHECK(poll(p, 1, 5000) == 1 && p[0].revents == POLLIN && read(ends[0], buf, 100) == 8);
    pthread_join(t, NULL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval tv = {0, 10000};
    CHECK(select(ends[0] + 1, &set, NULL, NULL, &tv) == 0 && !FD_ISSET(ends[0], &set));
    pthread_create(&t, NULL, later, (void *)(long)ends[1]);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(ends[0], &set) && read(ends[0], buf, 100) == 8);
    pthread_join(t, NULL);

    int ep = epoll_create1(EPOLL_CLOEXEC), ev = eventfd(0, EFD_NONBLOCK);
    struct epoll_event e = {EPOLLIN, {.u64 = 1}}, got[4];
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &e) == 0);
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &e) == -1 && errno == EEXIST);
    e.events = EPOLLIN | EPOLLET, e.data.u64 = 2;
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0 && epoll_wait(ep, got, 4, 0) == 0);
    uint64_t one = 1, value;
    CHECK(read(ev, &value, 8) == -1 && errno == EAGAIN && write(ev, &one, 8) == 8 && write(ev, &one, 8) == 8);
    CHECK(epoll_wait(ep, got, 4, 1000) == 1 && got[0].data.u64 == 2 && got[0].events == EPOLLIN);
    CHECK(epoll_wait(ep, got, 4, 0) == 0);
    CHECK(read(ev, &value, 8) == 8 && value == 2);
    pthread_create(&t, NULL, later, (void *)(long)ends[1]);
    CHECK(epoll_wait(ep, got, 4, 5000) == 1 && got[0].data.u64 == 1);
    CHECK(epoll_wait(ep, got, 4, 0) == 1 && read(ends[0], buf, 100) == 8 && epoll_wait(ep, got, 4, 0) == 0);
    pthread_join(t, NULL);
    CHECK(epoll_ctl(ep, EPOLL_CTL_DEL, ends[0], NULL) == 0 && write(ends[1], "x", 1) == 1 && epoll_wait(ep, got, 4, 10) == 0);
    CHECK(read(ends[0], buf, 1) == 1);

    int tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec its = {{0, 5000000}, {0, 200000000}};
    CHECK(timerfd_settime(tf, 0, &its, NULL) == 0 && read(tf, &value, 8) == -1 && errno == EAGAIN);
    struct pollfd pt = {tf, POLLIN, 0};
    CHECK(poll(&pt, 1, 1000) == 1 && read(tf, &value, 8) == 8 && value >= 1);
    e.events = EPOLLIN, e.data.u64 = 3;
    CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, tf, &e) == 0 && epoll_wait(ep, got, 4, 1000) == 1 && got[0].data.u64 == 3);

    signal(SIGALRM, on_alarm);
    struct sigevent sev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    timer_t timer;
    struct itimerspec once = {{0, 0}, {0, 5000000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &sev, &timer) == 0 && timer_settime(timer, 0, &once, NULL) == 0);
    start = seconds();
    while (nr_alarms == 0 && seconds() - start < 2)
        usleep(1000);
    CHECK(nr_alarms == 1 && timer_delete(timer) == 0);
    alarm(1);
    CHECK(alarm(0) == 1);

    struct timespec c1, c2, r;
    CHECK(clock_gettime(CLOCK_REALTIME, &c1) == 0 && c1.tv_sec > 1600000000 && time(NULL) - c1.tv_sec <= 1);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &c2) == 0 && labs(c2.tv_sec - c1.tv_sec) <= 1);
    struct timeval day;
    CHECK(gettimeofday(&day, NULL) == 0 && labs(day.tv_sec - c1.tv_sec) <= 1 && day.tv_usec < 1000000);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &c1) == 0 && syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &c2) == 0);
    CHECK((c2.tv_sec - c1.tv_sec) * 1000000000L + c2.tv_nsec - c1.tv_nsec >= 0);
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &r) == 0 && clock_getres(CLOCK_MONOTONIC, &r) == 0);
    CHECK(sched_getcpu() >= 0 && sched_getcpu() < sysconf(_SC_NPROCESSORS_ONLN));
    c2 = c1, c2.tv_nsec += 10000000;
    if (c2.tv_nsec >= 1000000000)
        c2.tv_sec++, c2.tv_nsec -= 1000000000;
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &c2, NULL) == 0);
    clock_gettime(CLOCK_MONOTONIC, &r);
    CHECK(r.tv_sec > c2.tv_sec || (r.tv_sec == c2.tv_sec && r.tv_nsec >= c2.tv_nsec));

    int big[2];
    CHECK(pipe(big) == 0);
    pthread_create(&t, NULL, pour, (void *)(long)big[1]);
    long total = 0;
    for (ssize_t n; (n = read(big[0], buf, sizeof buf)) > 0;)
        total += n;
    CHECK(total == 500000);
    pthread_join(t, NULL);
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    total = 0;
    for (ssize_t n; (n = write(ends[1], buf, 4096)) > 0;)
        total += n;
    CHECK(errno == EAGAIN && total == 65536);
    struct pollfd full = {ends[1], POLLOUT, 0};
    CHECK(poll(&full, 1, 0) == 0 && read(ends[0], buf, 4096) == 4096 && poll(&full, 1, 0) == 1);
    close(ends[0]);
    CHECK(poll(&full, 1, 0) == 1 && (full.revents & POLLERR));
    struct rusage ru;
    struct utsname un;
    struct tms tm;
    CHECK(getrusage(RUSAGE_SELF, &ru) == 0 && uname(&un) == 0 && strcmp(un.sysname, "Linux") == 0 && times(&tm) != (clock_t)-1);
    CHECK(syscall(9999) == -1 && errno == ENOSYS);
    PASSED();
}
