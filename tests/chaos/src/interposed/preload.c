/* Stands between the programs of a host and its C library (LD_PRELOAD), so that one host of many on a machine can have a wall clock of
 * its own, and lose at a power-off what was never synced. Monotonic clocks are left alone: no step of a wall clock moves them.
 *
 * CHAOS_CLOCK   a file of eight bytes: how many nanoseconds the wall clock is ahead, read anew each time
 * CHAOS_SYNCED  a directory: `files/INODE` is what a file held when it was synced last, `names/DIRECTORY` what a directory named then
 *               (`INODE f|d MODE NAME`, slashes of the directory written as `%`)
 * CHAOS_ROOTS   directories whose files are kept there, between colons
 *
 * A file is as durable as its last sync, and a name as the last sync of its directory: no more, though most file systems give more. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <errno.h>

static const long SECOND = 1000000000L;

static int64_t ahead(void) {
    static _Atomic(int64_t *) clock;
    static atomic_int looked;
    if (!atomic_load(&looked)) {
        const char *path = getenv("CHAOS_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            void *seen = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
            if (seen != MAP_FAILED) atomic_store(&clock, seen);
            close(fd);
        }
        atomic_store(&looked, 1);
    }
    int64_t *there = atomic_load(&clock);
    return there ? *(volatile int64_t *)there : 0;
}

static void step(struct timespec *time) {
    int64_t by = ahead();
    time->tv_sec += by / SECOND;
    time->tv_nsec += by % SECOND;
    if (time->tv_nsec >= SECOND) { time->tv_sec++; time->tv_nsec -= SECOND; }
    if (time->tv_nsec < 0) { time->tv_sec--; time->tv_nsec += SECOND; }
}

int clock_gettime(clockid_t which, struct timespec *time) {
    static _Atomic(void *) real;
    if (!atomic_load(&real)) atomic_store(&real, dlsym(RTLD_NEXT, "clock_gettime"));
    int answer = ((int (*)(clockid_t, struct timespec *))atomic_load(&real))(which, time);
    if (answer == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) step(time);
    return answer;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

/* Whether `path` is one of the roots or below one. */
static int is_kept(const char *path) {
    const char *roots = getenv("CHAOS_ROOTS");
    for (const char *root = roots; root && *root;) {
        size_t length = strcspn(root, ":");
        if (!strncmp(path, root, length) && (path[length] == '/' || !path[length])) return 1;
        root += length + (root[length] == ':');
    }
    return 0;
}

/* Where the copy is written before it has its name. */
static int begin(char *temporary, const char *synced) {
    static atomic_ulong number;
    unsigned long one = atomic_fetch_add(&number, 1);
    snprintf(temporary, PATH_MAX, "%s/new-%d-%lu", synced, (int)getpid(), one);
    return open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static int keep_file(int fd, const char *synced, const struct stat *seen) {
    char temporary[PATH_MAX], name[2 * PATH_MAX], source[64];
    static const size_t BLOCK = 1 << 16;
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    int from = open(source, O_RDONLY | O_CLOEXEC), to = begin(temporary, synced);
    char *block = malloc(BLOCK);
    ssize_t got = -1;
    while (from >= 0 && to >= 0 && block && (got = read(from, block, BLOCK)) > 0)
        if (write(to, block, (size_t)got) != got) { got = -1; break; }
    free(block);
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    snprintf(name, sizeof name, "%s/files/%lu", synced, (unsigned long)seen->st_ino);
    return got == 0 ? rename(temporary, name) : -1;
}

static int keep_names(const char *directory, const char *synced) {
    char temporary[PATH_MAX], name[2 * PATH_MAX], flat[PATH_MAX];
    int to = begin(temporary, synced);
    FILE *list = to >= 0 ? fdopen(to, "w") : NULL;
    DIR *entries = opendir(directory);
    if (!list || !entries) return -1;
    for (struct dirent *entry; (entry = readdir(entries));) {
        struct stat found;
        if (fstatat(dirfd(entries), entry->d_name, &found, AT_SYMLINK_NOFOLLOW)) continue;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) continue;
        char kind = S_ISDIR(found.st_mode) ? 'd' : 'f';
        fprintf(list, "%lu %c %o %s\n", (unsigned long)found.st_ino, kind, found.st_mode & 0777, entry->d_name);
    }
    closedir(entries);
    if (fclose(list)) return -1;
    snprintf(flat, sizeof flat, "%s", directory);
    for (char *at = flat; *at; at++) if (*at == '/') *at = '%';
    snprintf(name, sizeof name, "%s/names/%s", synced, flat);
    return rename(temporary, name);
}

/* After a sync that succeeded and before its caller hears of it. */
static int keep(int fd) {
    const char *synced = getenv("CHAOS_SYNCED");
    char link[64], path[PATH_MAX];
    struct stat seen;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!synced || length < 0) return 0;
    path[length] = 0;
    if (!is_kept(path) || fstat(fd, &seen)) return 0;
    if (S_ISDIR(seen.st_mode)) return keep_names(path, synced);
    return S_ISREG(seen.st_mode) ? keep_file(fd, synced, &seen) : 0;
}

static int sync_by(const char *name, _Atomic(void *) *real, int fd) {
    if (!atomic_load(real)) atomic_store(real, dlsym(RTLD_NEXT, name));
    int answer = ((int (*)(int))atomic_load(real))(fd);
    if (answer == 0 && keep(fd)) { errno = EIO; return -1; }
    return answer;
}

int fsync(int fd) {
    static _Atomic(void *) real;
    return sync_by("fsync", &real, fd);
}

int fdatasync(int fd) {
    static _Atomic(void *) real;
    return sync_by("fdatasync", &real, fd);
}
