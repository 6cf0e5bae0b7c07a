/* mmap and its family: private and shared, anonymous and files, protection, growth, sparse reservations. */
#include "check.h"

static sigjmp_buf back;
static void on_fault(int s) { siglongjmp(back, s); }
static int faults(volatile char *at, int is_write) {
    int s = sigsetjmp(back, 1);
    if (s == 0) {
        if (is_write)
            *at = 1;
        else
            (void)*at;
    }
    return s;
}

int main(void) {
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    size_t huge = (size_t)8 << 40;
    char *room = mmap(NULL, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(room != MAP_FAILED && faults(room, 0) == SIGSEGV);
    CHECK(mprotect(room + (1 << 30), 8192, PROT_READ | PROT_WRITE) == 0);
    room[1 << 30] = 5;
    CHECK(faults(room + (1 << 30) + 8192, 0) == SIGSEGV);
    CHECK(munmap(room, huge) == 0 && faults(room + (1 << 30), 0) == SIGSEGV);

    char *p = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 16; i++)
        CHECK(p[i * 4096] == 0);
    memset(p, 3, 16 * 4096);
    CHECK(madvise(p + 4096, 4096, MADV_DONTNEED) == 0 && p[4096] == 0 && p[0] == 3 && p[8192] == 3);
    CHECK(mprotect(p, 4096, PROT_READ) == 0 && faults(p, 1) == SIGSEGV && p[0] == 3);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0 && faults(p, 1) == 0);
    char *q = mremap(p, 16 * 4096, 64 * 4096, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q[0] == 1 && q[8192] == 3 && q[40 * 4096] == 0);
    CHECK(mmap(q, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    CHECK(errno == EEXIST);
    unsigned char resident[64];
    CHECK(mincore(q, 64 * 4096, resident) == 0 && resident[0] && !resident[50]);
    CHECK(munmap(q + 4096, 4096) == 0 && faults(q + 4096, 0) == SIGSEGV && faults(q + 8192, 0) == 0);

    /* Code made at run time. */
    unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};
    unsigned char *x = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(x, code, sizeof code);
    if (sigsetjmp(back, 1) == 0) {
        ((int (*)(void))x)();
        CHECK(!"executed without permission");
    }
    CHECK(mprotect(x, 4096, PROT_READ | PROT_EXEC) == 0 && ((int (*)(void))x)() == 42);

    int fd = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 3 * 4096) == 0);
    char *a = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *b = mmap(NULL, 3 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    char *c = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(a != MAP_FAILED && b != MAP_FAILED && c != MAP_FAILED && b[0] == 0);
    strcpy(a, "through the mapping");
    CHECK(strcmp(b, "through the mapping") == 0);
    char buf[32] = {0};
    CHECK(pread(fd, buf, 20, 0) == 20 && strcmp(buf, "through the mapping") == 0);
    CHECK(pwrite(fd, "by a call", 10, 4096) == 10 && strcmp(b + 4096, "by a call") == 0 && strcmp(a + 4096, "by a call") == 0);
    c[0] = 'T';
    CHECK(a[0] == 't');
    CHECK(msync(a, 3 * 4096, MS_SYNC) == 0);
    if (fork() == 0) {
        strcpy(a + 8192, "child");
        c[1] = 'H';
        _exit(0);
    }
    int status;
    wait(&status);
    CHECK(strcmp(b + 8192, "child") == 0 && c[1] == 'h');
    CHECK(ftruncate(fd, 4096) == 0 && faults(a + 4096, 0) == SIGBUS && faults(a, 0) == 0);
    CHECK(munmap(a, 3 * 4096) == 0 && munmap(b, 3 * 4096) == 0);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open("/tmp/mapped", O_RDONLY), 0) == MAP_FAILED && errno == EACCES);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);

    /* Calls given bad addresses. */
    CHECK(write(1, (void *)0x1000, 10) == -1 && errno == EFAULT);
    CHECK(read(open("/dev/zero", O_RDONLY), (void *)0x1000, 10) == -1 && errno == EFAULT);
    CHECK(open((char *)-4096L, O_RDONLY) == -1 && errno == EFAULT);
    CHECK(read(open("/dev/zero", O_RDONLY), (void *)0xffff800000000000, 8) == -1 && errno == EFAULT);

    char *before = sbrk(0);
    CHECK(sbrk(300000) == before && sbrk(0) == before + 300000);
    before[299999] = 1;
    CHECK(sbrk(-300000) != (void *)-1 && sbrk(0) == before);

    /* Large memory, touched sparsely and densely. */
    size_t big = 48 << 20;
    char *m = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < big; i += 4096)
        m[i] = (char)(i >> 12);
    CHECK(munmap(m + (2 << 20) + 4096, 4096) == 0);
    CHECK(m[3 << 20] == (char)((3 << 20) >> 12) && faults(m + (2 << 20) + 4096, 0) == SIGSEGV);
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 8 << 20; i < big; i += 4096) {
            CHECK(m[i] == (char)(i >> 12));
            m[i] = 9;
        }
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    for (size_t i = 8 << 20; i < big; i += 4096)
        CHECK(m[i] == (char)(i >> 12));
    int fdm = memfd_create("x", 0);
    CHECK(fdm >= 0 && ftruncate(fdm, 8192) == 0);
    char *m1 = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fdm, 0);
    char *m2 = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fdm, 0);
    m1[5000] = 17;
    CHECK(m2[5000] == 17);
    PASSED();
}
