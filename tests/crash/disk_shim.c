/* The disk under test: loaded with LD_PRELOAD, between the process and its files below one folder.
 *
 * Owns two things: a recording of every change to the folder (for the power-cut replayer), and faults on demand.
 * Must never touch a file outside TILLSTONE_DISK_FOLDER.
 *
 * TILLSTONE_DISK_FOLDER   only files below it are watched
 * TILLSTONE_DISK_LOG      file to append records to
 * TILLSTONE_DISK_FAULT    file with one line: "<call> <name part> <what> <after>", read before each watched call;
 *                         call: sync or write; what: eio, enospc, short; after: how many such calls still succeed.
 *                         A fault stays until the file is emptied.
 *
 * A record is: kind (1 byte: W write, T truncate, S sync, F failed sync, R rename, U unlink, C create, D folder sync),
 * path length (4), path, second path length (4), second path, offset (8), data length (4), data. Little endian.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *folder;
static const char *fault_path;
static size_t folder_size;
static long calls_seen;
static char fault_seen[256];

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void start(void)
{
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_open = dlsym(RTLD_NEXT, "open64");
    folder = getenv("TILLSTONE_DISK_FOLDER");
    fault_path = getenv("TILLSTONE_DISK_FAULT");
    folder_size = folder ? strlen(folder) : 0;
    if (folder && getenv("TILLSTONE_DISK_LOG"))
        log_fd = real_open(getenv("TILLSTONE_DISK_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int is_watched(const char *path)
{
    return folder && strncmp(path, folder, folder_size) == 0 && (path[folder_size] == '/' || path[folder_size] == 0);
}

/* The path of a descriptor, if it is watched. -shm is shared memory, not storage. */
static const char *path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0)
        return NULL;
    path[size] = 0;
    if (!is_watched(path) || strstr(path, "-shm"))
        return NULL;
    return path;
}

static void record(char kind, const char *path, const char *second, uint64_t offset, const void *data, uint32_t size)
{
    if (log_fd < 0)
        return;
    uint32_t path_size = strlen(path), second_size = strlen(second);
    struct iovec parts[] = {
        {&kind, 1}, {&path_size, 4}, {(void *)path, path_size}, {&second_size, 4}, {(void *)second, second_size},
        {&offset, 8}, {&size, 4}, {(void *)data, size},
    };
    if (writev(log_fd, parts, 8) < 0)
        abort();
}

/* The errno to fail with, 0 for none, -1 for a short write. */
static int fault_of(const char *call, const char *path)
{
    char line[256] = "", wanted[32], part[128], what[32];
    long after;
    if (!fault_path)
        return 0;
    int fd = real_open(fault_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, line, sizeof line - 1);
    close(fd);
    if (size <= 0 || sscanf(line, "%31s %127s %31s %ld", wanted, part, what, &after) != 4)
        return 0;
    if (strcmp(line, fault_seen) != 0) {
        strcpy(fault_seen, line);
        calls_seen = 0;
    }
    if (strcmp(wanted, call) != 0 || !strstr(path, part) || calls_seen++ < after)
        return 0;
    return strcmp(what, "eio") == 0 ? EIO : strcmp(what, "enospc") == 0 ? ENOSPC : -1;
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset, int has_offset)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return has_offset ? real_pwrite(fd, data, size, offset) : real_write(fd, data, size);
    pthread_mutex_lock(&lock);
    int fault = fault_of("write", path);
    ssize_t result;
    if (fault > 0) {
        errno = fault;
        result = -1;
    } else {
        size_t allowed = fault < 0 && size > 1 ? size / 2 : size;
        if (!has_offset)
            offset = lseek(fd, 0, SEEK_CUR);
        result = has_offset ? real_pwrite(fd, data, allowed, offset) : real_write(fd, data, allowed);
        if (result > 0)
            record('W', path, "", offset, data, result);
        if (fault < 0 && result > 0) { /* torn: half is there, the rest never comes */
            errno = ENOSPC;
            result = -1;
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 1); }
ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }

static int synced(int fd, int (*real)(int))
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return real(fd);
    pthread_mutex_lock(&lock);
    int fault = fault_of("sync", path);
    int result;
    if (fault) {
        /* As Linux does: the error is told once, the pages look clean, their bytes never reached the disk. */
        record('F', path, "", 0, "", 0);
        errno = fault > 0 ? fault : EIO;
        result = -1;
    } else {
        struct stat status;
        result = real(fd);
        record(fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? 'D' : 'S', path, "", 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

static int truncated(int fd, off_t size)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, size);
    if (result == 0)
        record('T', path, "", size, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate64(int fd, off_t size) { return truncated(fd, size); }
int ftruncate(int fd, off_t size) { return truncated(fd, size); }

int rename(const char *old, const char *new)
{
    pthread_mutex_lock(&lock);
    int result = real_rename(old, new);
    if (result == 0 && is_watched(new))
        record('R', old, new, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path)
{
    pthread_mutex_lock(&lock);
    int result = real_unlink(path);
    if (result == 0 && is_watched(path) && !strstr(path, "-shm"))
        record('U', path, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static int opened(const char *path, int flags, mode_t mode)
{
    if (!is_watched(path) || strstr(path, "-shm") || !(flags & (O_CREAT | O_TRUNC)))
        return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int existed = stat(path, &status) == 0;
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && !existed)
        record('C', path, "", 0, "", 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        record('T', path, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}
