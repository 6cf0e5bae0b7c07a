/* Threads: creation, joining, mutexes, condition variables, thread-local storage, cancellation, robust mutexes. */
#include "check.h"

static __thread int own = 7;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static pthread_key_t key;
static int nr_destroyed;

static void *add(void *arg) {
    own += (int)(long)arg;
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)(long)own;
}

static void *take_turns(void *arg) {
    int me = (int)(long)arg;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < 500; i++) {
        while (turn != me)
            pthread_cond_wait(&changed, &mutex);
        turn = 1 - me;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void destroy(void *p) { nr_destroyed += p != NULL; }
static void *with_key(void *arg) {
    pthread_setspecific(key, arg);
    return NULL;
}
static void *sleep_for_ever(void *arg) {
    (void)arg;
    for (;;)
        pause();
    return NULL;
}

static pthread_mutex_t robust;
static void *die_with_lock(void *arg) {
    (void)arg;
    pthread_mutex_lock(&robust);
    return NULL;
}

static void *fill_stack(void *arg) {
    volatile char room[512 * 1024];
    for (size_t i = 0; i < sizeof room; i += 4096)
        room[i] = (char)i;
    return (void *)(long)(room[4096] == (char)4096 && arg != NULL);
}

int main(void) {
    pthread_t t[8];
    void *result;
    for (long i = 0; i < 8; i++)
        CHECK(pthread_create(&t[i], NULL, add, (void *)i) == 0);
    for (long i = 0; i < 8; i++) {
        CHECK(pthread_join(t[i], &result) == 0);
        CHECK((long)result == 7 + i);
    }
    CHECK(counter == 160000);
    CHECK(own == 7);

    for (long i = 0; i < 2; i++)
        CHECK(pthread_create(&t[i], NULL, take_turns, (void *)i) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(t[i], NULL) == 0);

    CHECK(pthread_key_create(&key, destroy) == 0);
    CHECK(pthread_create(&t[0], NULL, with_key, &key) == 0);
    CHECK(pthread_join(t[0], NULL) == 0);
    CHECK(nr_destroyed == 1);

    CHECK(pthread_create(&t[0], NULL, sleep_for_ever, NULL) == 0);
    CHECK(pthread_cancel(t[0]) == 0);
    CHECK(pthread_join(t[0], &result) == 0);
    CHECK(result == PTHREAD_CANCELED);

    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attr);
    CHECK(pthread_create(&t[0], NULL, die_with_lock, NULL) == 0);
    CHECK(pthread_join(t[0], NULL) == 0);
    CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&robust) == 0);
    CHECK(pthread_mutex_unlock(&robust) == 0);

    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20 * 1000 * 1000;
    if (soon.tv_nsec >= 1000000000) {
        soon.tv_nsec -= 1000000000;
        soon.tv_sec++;
    }
    pthread_mutex_lock(&mutex);
    CHECK(pthread_cond_timedwait(&changed, &mutex, &soon) == ETIMEDOUT);
    pthread_mutex_unlock(&mutex);

    for (int round = 0; round < 40; round++) {
        CHECK(pthread_create(&t[0], NULL, fill_stack, &key) == 0);
        CHECK(pthread_join(t[0], &result) == 0);
        CHECK(result == (void *)1);
    }
    PASSED();
}
