/* Preloaded into a program under test: its wall clock is wrong by as many nanoseconds as the file WALL_CLOCK_FILE says, from
   moment to moment. All other clocks are left alone. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANOS_PER_SEC 1000000000LL

static _Atomic int64_t *error_nanos;

__attribute__((constructor)) static void open_file(void)
{
    const char *path = getenv("WALL_CLOCK_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *error_nanos, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        abort();
    close(file);
    error_nanos = page;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed || error_nanos == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    int64_t error = *error_nanos;
    int64_t nanos = time->tv_nsec + error % NANOS_PER_SEC;
    time->tv_sec += error / NANOS_PER_SEC;
    if (nanos < 0 || nanos >= NANOS_PER_SEC) {
        int64_t carried = nanos < 0 ? -1 : 1;
        time->tv_sec += carried;
        nanos -= carried * NANOS_PER_SEC;
    }
    time->tv_nsec = nanos;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *copy)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (copy != NULL)
        *copy = now.tv_sec;
    return now.tv_sec;
}
