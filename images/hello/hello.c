/* Says hello, and how it was started. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    printf("hello from %s, pid %d\n", argv[0], (int)getpid());
    for (int i = 1; i < argc; i++) printf("argument %d: %s\n", i, argv[i]);
    const char *status = getenv("STATUS");
    return status ? atoi(status) : 0;
}
