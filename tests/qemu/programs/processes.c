/* fork with copy-on-write, exec, wait, pipes between processes, shared memory, vfork, process groups. */
#include "check.h"

static char data[64 * 4096];

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "echo") == 0) {
        char line[64];
        ssize_t n = read(0, line, sizeof line);
        CHECK(n > 0 && strcmp(getenv("GIVEN"), "env") == 0 && argc == 3);
        CHECK(fcntl(9, F_GETFD) == -1 && errno == EBADF);
        CHECK(write(1, line, n) == n);
        return 42;
    }
    int status;
    memset(data, 1, sizeof data);
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 5; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (size_t i = 0; i < sizeof data; i += 4096) {
                CHECK(data[i] == 1);
                data[i] = 2;
            }
            shared[round] = getpid();
            _exit(data[4096] == 2 ? 7 : 8);
        }
        for (size_t i = 0; i < sizeof data; i += 8192)
            data[i + 1] = (char)round;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        CHECK(shared[round] == child && data[4096] == 1 && data[1] == (char)round);
    }
    int in[2], out[2];
    CHECK(pipe(in) == 0 && pipe2(out, O_CLOEXEC) == 0);
    CHECK(dup3(in[0], 9, O_CLOEXEC) == 9);
    pid_t child = fork();
    if (child == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        char *args[] = {argv[0], "echo", "arg", NULL}, *env[] = {"GIVEN=env", NULL};
        execve("/proc/self/exe", args, env);
        _exit(99);
    }
    char line[64] = {0};
    close(out[1]);
    CHECK(write(in[1], "over the pipe", 13) == 13);
    CHECK(read(out[0], line, sizeof line) == 13 && memcmp(line, "over the pipe", 13) == 0);
    CHECK(read(out[0], line, sizeof line) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0 && info.si_status == 42);
    CHECK(waitpid(-1, &status, 0) == child && WEXITSTATUS(status) == 42);
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
    child = vfork();
    if (child == 0) {
        data[7] = 77;
        _exit(5);
    }
    CHECK(data[7] == 77 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
    CHECK(system("exit 6") == -1 || 1);
    child = fork();
    if (child == 0) {
        CHECK(setsid() == getpid() && getpgrp() == getpid() && getppid() != getpid());
        execl("/no/such/program", "x", NULL);
        CHECK(errno == ENOENT);
        int fd = open("/tmp/notexec", O_CREAT | O_WRONLY, 0755);
        CHECK(write(fd, "junk", 4) == 4);
        close(fd);
        execl("/tmp/notexec", "x", NULL);
        CHECK(errno == ENOEXEC);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* Many at once, ended in any order. */
    pid_t all[12];
    for (int i = 0; i < 12; i++) {
        all[i] = fork();
        if (all[i] == 0) {
            usleep((12 - i) * 1000);
            _exit(i);
        }
    }
    int seen = 0;
    for (int i = 0; i < 12; i++) {
        pid_t p = wait(&status);
        for (int j = 0; j < 12; j++)
            if (all[j] == p && WEXITSTATUS(status) == j)
                seen |= 1 << j;
    }
    CHECK(seen == 0xfff);
    PASSED();
}
