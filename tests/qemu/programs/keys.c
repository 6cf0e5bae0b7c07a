/* Reads two lines from the terminal; with an argument waits for the interrupt key instead. */
#include "check.h"

int main(int argc, char **argv) {
    (void)argv;
    char first[64], second[64];
    CHECK(isatty(0) && isatty(1));
    if (argc > 1)
        for (;;)
            pause();
    ssize_t n = read(0, first, sizeof first);
    CHECK(n > 0 && first[n - 1] == '\n');
    first[n - 1] = 0;
    n = read(0, second, sizeof second);
    CHECK(n > 0 && second[n - 1] == '\n');
    second[n - 1] = 0;
    printf("read <%s> and <%s>\n", first, second);
    return 0;
}
