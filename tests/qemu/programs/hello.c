/* The least a C program does: standard output, the heap, floating point, an exit status. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    char *block = malloc(1 << 20);
    block[5] = (char)argc;
    printf("hello from %s: %d, %.2f\n", argv[0], block[5], 1.5);
    return 3;
}
