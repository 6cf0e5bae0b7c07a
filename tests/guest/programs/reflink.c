/* Sharing blocks between files of a pool: ioctl(FICLONE), ioctl(FICLONERANGE), copy_file_range, and what they refuse.
 * reflink DIR OTHER: two directories on different file systems of the same pool. */
#include "../../qemu/programs/check.h"
#include <linux/fs.h>
#include <sys/ioctl.h>

enum { RECORD = 128 << 10, LEN = 20 * RECORD + 777 };
static char content[LEN], got[LEN];

static int make(const char *dir, const char *name) {
    char path[200];
    sprintf(path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    return fd;
}

static int same(int fd, size_t at, size_t len) { return pread(fd, got, len, at) == (ssize_t)len && memcmp(got, content + at, len) == 0; }

int main(int argc, char **argv) {
    CHECK(argc == 3);
    unsigned long state = 1;
    for (int i = 0; i < LEN; i++)
        state = state * 6364136223846793005ul + 1, content[i] = state >> 56;
    int from = make(argv[1], "from"), to = make(argv[1], "to"), other = make(argv[2], "other"), part = make(argv[1], "part");
    CHECK(write(from, content, LEN) == LEN);

    CHECK(ioctl(to, FICLONE, from) == 0);
    struct stat st;
    CHECK(fstat(to, &st) == 0 && st.st_size == LEN && same(to, 0, LEN));
    CHECK(ioctl(other, FICLONE, from) == -1 && errno == EXDEV);
    CHECK(ioctl(to, FICLONE, 99) == -1 && errno == EBADF);
    int dir = open(argv[1], O_RDONLY);
    CHECK(ioctl(to, FICLONE, dir) == -1 && errno == EISDIR);
    char name[30];
    sprintf(name, "/proc/self/fd/%d", to);
    int readonly = open(name, O_RDONLY);
    CHECK(readonly >= 0 && ioctl(readonly, FICLONE, from) == -1 && errno == EBADF);

    struct file_clone_range range = {.src_fd = from, .src_offset = RECORD, .src_length = 2 * RECORD, .dest_offset = 0};
    CHECK(ioctl(part, FICLONERANGE, &range) == 0 && fstat(part, &st) == 0 && st.st_size == 2 * RECORD);
    CHECK(pread(part, got, 2 * RECORD, 0) == 2 * RECORD && memcmp(got, content + RECORD, 2 * RECORD) == 0);
    range.src_offset = 1;
    CHECK(ioctl(part, FICLONERANGE, &range) == -1 && errno == EINVAL);
    range = (struct file_clone_range){.src_fd = part, .src_offset = 0, .src_length = 2 * RECORD, .dest_offset = RECORD};
    CHECK(ioctl(part, FICLONERANGE, &range) == -1 && errno == EINVAL);

    /* A mapping of the target sees the clone; what is dirty in one of the source is cloned. */
    char *map = mmap(0, RECORD, PROT_READ | PROT_WRITE, MAP_SHARED, from, 0);
    char *seen = mmap(0, RECORD, PROT_READ, MAP_SHARED, to, 0);
    CHECK(map != MAP_FAILED && seen != MAP_FAILED && seen[5] == content[5]);
    content[5] ^= 1, map[5] = content[5];
    CHECK(ioctl(to, FICLONE, from) == 0 && seen[5] == content[5] && same(to, 0, LEN));

    /* Copies share what they can, also across file systems of a pool; the rest is copied. */
    CHECK(fsync(from) == 0);
    sync();
    loff_t at = 0, to_at = 0;
    while (at < LEN)
        CHECK(copy_file_range(from, &at, other, &to_at, LEN, 0) > 0);
    CHECK(at == LEN && to_at == LEN && same(other, 0, LEN));
    at = 100, to_at = 100;
    CHECK(copy_file_range(from, &at, other, &to_at, 5000, 0) == 5000 && same(other, 0, LEN));
    at = 0, to_at = 10;
    CHECK(copy_file_range(from, &at, from, &to_at, 100, 0) == -1 && errno == EINVAL);

    CHECK(fsync(to) == 0 && fsync(other) == 0);
    PASSED();
}
