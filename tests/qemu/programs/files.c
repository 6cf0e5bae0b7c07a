/* The file calls, by what they must and must not do. Runs in the directory given, or /tmp. */
#include "check.h"
#include <dirent.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : "/tmp/files";
    char buf[4096], cwd[256];
    struct stat st, st2;
    CHECK(mkdir(dir, 0755) == 0 || errno == EEXIST);
    CHECK(chdir(dir) == 0 && getcwd(cwd, sizeof cwd) && strcmp(cwd, dir) == 0);

    int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 3);
    CHECK(open("a", O_RDWR | O_CREAT | O_EXCL, 0640) == -1 && errno == EEXIST);
    CHECK(write(fd, "0123456789", 10) == 10 && lseek(fd, 0, SEEK_CUR) == 10);
    CHECK(pread(fd, buf, 4, 3) == 4 && memcmp(buf, "3456", 4) == 0);
    CHECK(pwrite(fd, "XY", 2, 1) == 2 && lseek(fd, 0, SEEK_SET) == 0);
    CHECK(read(fd, buf, 100) == 10 && memcmp(buf, "0XY3456789", 10) == 0 && read(fd, buf, 1) == 0);
    struct iovec v[2] = {{buf, 3}, {buf + 10, 50}};
    CHECK(preadv(fd, v, 2, 5) == 5 && buf[0] == '5' && buf[10] == '8');
    v[0].iov_len = 3, v[1].iov_len = 2;
    CHECK(lseek(fd, 0, SEEK_END) == 10 && writev(fd, v, 2) == 5);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 15 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 && st.st_nlink == 1);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && ftruncate(fd, 5) == 0 && fstat(fd, &st) == 0 && st.st_size == 5);
    CHECK(ftruncate(fd, 9000) == 0 && pread(fd, buf, 4, 8000) == 4 && buf[0] == 0);
    CHECK(lseek(fd, -1, SEEK_SET) == -1 && errno == EINVAL);

    int ap = open("a", O_WRONLY | O_APPEND);
    CHECK(write(ap, "end", 3) == 3 && lseek(ap, 0, SEEK_CUR) == 9003);
    CHECK(fcntl(ap, F_GETFL) == (O_WRONLY | O_APPEND | 0100000) && read(ap, buf, 1) == -1 && errno == EBADF);
    close(ap);

    CHECK(link("a", "b") == 0 && stat("b", &st2) == 0 && st2.st_ino == st.st_ino && st2.st_nlink == 2);
    CHECK(symlink("a", "l") == 0 && lstat("l", &st2) == 0 && S_ISLNK(st2.st_mode) && readlink("l", buf, 10) == 1 && buf[0] == 'a');
    CHECK(open("l", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
    CHECK(unlink("a") == 0 && stat("l", &st2) == -1 && errno == ENOENT && fstat(fd, &st) == 0 && st.st_nlink == 1);
    CHECK(rename("b", "c") == 0 && access("b", F_OK) == -1 && access("c", R_OK | W_OK) == 0);
    CHECK(renameat2(AT_FDCWD, "c", AT_FDCWD, "l", RENAME_NOREPLACE) == -1 && errno == EEXIST);
    CHECK(mkdir("d", 0700) == 0 && mkdir("d", 0700) == -1 && errno == EEXIST && mkdir("d/e", 0700) == 0);
    CHECK(rmdir("d") == -1 && errno == ENOTEMPTY && unlink("d") == -1 && errno == EISDIR);
    CHECK(rename("d", "d/e/f") == -1 && errno == EINVAL);
    int dfd = open("d", O_RDONLY | O_DIRECTORY);
    CHECK(dfd >= 0 && read(dfd, buf, 1) == -1 && errno == EISDIR);
    int in = openat(dfd, "in", O_CREAT | O_WRONLY, 0600);
    CHECK(in >= 0 && fstatat(dfd, "in", &st, 0) == 0 && unlinkat(dfd, "in", 0) == 0);
    CHECK(open("d", O_WRONLY) == -1 && errno == EISDIR && open("c/x", O_RDONLY) == -1 && errno == ENOTDIR);
    CHECK(unlinkat(dfd, "e", AT_REMOVEDIR) == 0 && fchdir(dfd) == 0 && getcwd(cwd, sizeof cwd) && strstr(cwd, "/d"));
    CHECK(chdir("..") == 0);

    for (int i = 0; i < 300; i++) {
        char name[64];
        sprintf(name, "d/entry-with-a-name-%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
    }
    DIR *d = opendir("d");
    int nr = 0, dots = 0;
    for (struct dirent *e; (e = readdir(d));)
        e->d_name[0] == '.' ? dots++ : nr++;
    CHECK(nr == 300 && dots == 2);
    rewinddir(d);
    readdir(d), readdir(d), readdir(d);
    long at = telldir(d);
    char *next = strdup(readdir(d)->d_name);
    seekdir(d, at);
    CHECK(strcmp(readdir(d)->d_name, next) == 0);
    closedir(d);

    CHECK(umask(027) == 022);
    int um = open("um", O_CREAT | O_RDWR, 0666);
    CHECK(fstat(um, &st) == 0 && (st.st_mode & 0777) == 0640 && fchmod(um, 0604) == 0 && fstat(um, &st) == 0 && (st.st_mode & 0777) == 0604);
    CHECK(fchown(um, 12, 34) == 0 && fstat(um, &st) == 0 && st.st_uid == 12 && st.st_gid == 34);
    struct timespec ts[2] = {{1000, 5}, {2000, 7}};
    CHECK(futimens(um, ts) == 0 && fstat(um, &st) == 0 && st.st_atim.tv_sec == 1000 && st.st_mtim.tv_nsec == 7);
    struct statx sx;
    CHECK(statx(AT_FDCWD, "um", 0, STATX_ALL, &sx) == 0 && sx.stx_size == 0 && sx.stx_mtime.tv_sec == 2000 && sx.stx_uid == 12);
    struct statfs sf;
    CHECK(statfs(".", &sf) == 0 && sf.f_namelen == 255 && fstatfs(um, &sf) == 0);

    int bits = open("bits", O_CREAT | O_RDWR, 0600);
    CHECK(fchmod(bits, 06777) == 0 && write(bits, "x", 1) == 1 && fstat(bits, &st) == 0 && (st.st_mode & 07777) == 06777);
    pid_t other = fork();
    if (other == 0) {
        CHECK(setgid(1000) == 0 && setuid(1000) == 0);
        int theirs = open("bits", O_WRONLY);
        CHECK(theirs >= 0 && write(theirs, "y", 1) == 1);
        _exit(0);
    }
    int how;
    CHECK(waitpid(other, &how, 0) == other && how == 0 && fstat(bits, &st) == 0 && (st.st_mode & 07777) == 0777);
    CHECK(fchmod(bits, 06767) == 0 && fchown(bits, 12, -1) == 0 && fstat(bits, &st) == 0 && (st.st_mode & 07777) == 02767);
    char longer[300];
    memset(longer, 'n', sizeof longer), longer[256] = 0;
    CHECK(open(longer, O_CREAT | O_RDWR, 0600) == -1 && errno == ENAMETOOLONG && stat(longer, &st) == -1 && errno == ENAMETOOLONG);
    longer[255] = 0;
    CHECK(close(open(longer, O_CREAT | O_RDWR, 0600)) == 0 && unlink(longer) == 0);

    CHECK(fallocate(um, 0, 0, 8192) == 0 && fstat(um, &st) == 0 && st.st_size == 8192);
    CHECK(fallocate(um, FALLOC_FL_KEEP_SIZE, 0, 16384) == 0 && fstat(um, &st) == 0 && st.st_size == 8192);
    CHECK(pwrite(um, "data", 4, 4096) == 4 && fallocate(um, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
    CHECK(pread(um, buf, 4, 4096) == 4 && buf[0] == 0);
    int to = open("copy", O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(pwrite(um, "sendfile", 8, 0) == 8);
    off_t from = 0;
    CHECK(sendfile(to, um, &from, 8) == 8 && from == 8);
    loff_t a = 4, b = 100;
    CHECK(copy_file_range(um, &a, to, &b, 4, 0) == 4 && a == 8 && b == 104 && pread(to, buf, 4, 100) == 4 && memcmp(buf, "file", 4) == 0);
    CHECK(syscall(SYS_pwritev2, to, v, 1, 0L, 0L, 2 /* RWF_DSYNC */) == 3);
    if (fsetxattr(um, "user.k", "value", 5, 0) == 0) {
        CHECK(fgetxattr(um, "user.k", buf, 100) == 5 && memcmp(buf, "value", 5) == 0 && flistxattr(um, buf, 100) == 7);
        CHECK(fsetxattr(um, "user.k", "x", 1, XATTR_CREATE) == -1 && errno == EEXIST);
        CHECK(fremovexattr(um, "user.k") == 0 && fgetxattr(um, "user.k", buf, 1) == -1 && errno == ENODATA);
    }

    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    CHECK(fcntl(to, F_SETLK, &fl) == 0 && flock(um, LOCK_EX | LOCK_NB) == 0);
    pid_t child = fork();
    if (child == 0) {
        int um2 = open("um", O_RDWR), to2 = open("copy", O_RDWR);
        CHECK(flock(um2, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
        struct flock g = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
        CHECK(fcntl(to2, F_SETLK, &g) == -1 && (errno == EAGAIN || errno == EACCES));
        CHECK(fcntl(to2, F_GETLK, &g) == 0 && g.l_type == F_WRLCK && g.l_pid == getppid() && g.l_start == 10 && g.l_len == 10);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    CHECK(fcntl(to, F_DUPFD_CLOEXEC, 50) == 50 && fcntl(50, F_GETFD) == FD_CLOEXEC && close(50) == 0 && close(50) == -1 && errno == EBADF);
    CHECK(dup2(to, 60) == 60 && dup2(60, 60) == 60 && dup3(60, 60, 0) == -1 && errno == EINVAL);
    CHECK(isatty(to) == 0 && errno == ENOTTY);
    sprintf(buf, "/proc/self/fd/%d", to);
    ssize_t n = readlink(buf, cwd, sizeof cwd - 1);
    CHECK(n > 0 && (cwd[n] = 0, strstr(cwd, "/copy")));
    int again = open(buf, O_RDONLY);
    CHECK(again >= 0 && pread(again, buf, 4, 100) == 4 && memcmp(buf, "file", 4) == 0);
    CHECK(mkfifo("fifo", 0600) == 0 && open("fifo", O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO);
    if (fork() == 0) {
        int w = open("fifo", O_WRONLY);
        CHECK(write(w, "through", 7) == 7);
        _exit(0);
    }
    int r = open("fifo", O_RDONLY);
    CHECK(r >= 0 && read(r, buf, 100) == 7 && read(r, buf, 100) == 0);
    wait(&status);
    char longname[300];
    memset(longname, 'n', 299), longname[299] = 0;
    CHECK(open(longname, O_RDONLY) == -1 && errno == ENAMETOOLONG && open("", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(open("/dev/full", O_WRONLY) >= 0 && write(open("/dev/full", O_WRONLY), "x", 1) == -1 && errno == ENOSPC);
    int tmp = open(".", O_TMPFILE | O_RDWR, 0600);
    if (tmp >= 0)
        CHECK(fstat(tmp, &st) == 0 && st.st_nlink == 0 && write(tmp, "x", 1) == 1);
    sync();
    PASSED();
}
