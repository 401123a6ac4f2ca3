/*
 * Records what one process asks of the file system below a directory, in order, and injects faults there.
 * Loaded with LD_PRELOAD into an unchanged server; a crash test replays the record as a disk that lost what
 * was never flushed. See README.md beside this file for the record's format and the rules.
 *
 *   FAULTS_ROOT        the directory; nothing outside it is touched. Without it the library does nothing
 *   FAULTS_LOG         where the record is appended to
 *   FAULTS_SKIP_SYNC   1: flushes are recorded and not carried out, so that a test does not wait for the disk
 *   FAULTS_SYNC_US     flushes take up to so many microseconds more, so that other work gets in between
 *   FAULTS_SEED        for these delays
 *   FAULTS_RULES       lines of `action|operation|pattern|nth`
 *   FAULTS_WHILE       the rules count only while this file exists
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
  OP_OPEN = 1, OP_CLOSE, OP_WRITE, OP_TRUNCATE, OP_SYNC_BEGIN, OP_SYNC_END, OP_RENAME, OP_UNLINK,
  OP_RMDIR, OP_MKDIR, OP_LINK, OP_MARK, OP_UNSUPPORTED
};
enum { FLAG_CREATE = 1, FLAG_TRUNCATE = 2 };

struct __attribute__((packed)) header {
  uint32_t length;
  uint8_t op, flags;
  uint16_t first_path, second_path, unused;
  int32_t fd;
  uint32_t pid;
  int64_t offset;
  uint64_t size;
};

enum { KILL_BEFORE, KILL_AFTER, KILL_MIDDLE, FAIL };
struct rule {
  int action, error;
  char operation[16], pattern[256];
  long nth, seen;
  int onwards;
};

#define MAX_FD 65536
static char *paths[MAX_FD];
static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1, skip_sync, rule_count;
static long sync_us;
static uint64_t random_state = 88172645463325252ull;
static char while_file[PATH_MAX];
static struct rule rules[32];
static int64_t last_sync;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The library's own calls must not come back to it. */
static long (*real_syscall)(long number, ...);

static void die(const char *why) {
  dprintf(2, "recorder: %s: %s\n", why, strerror(errno));
  abort();
}

static void read_rules(const char *text) {
  while (*text != 0 && rule_count < 32) {
    struct rule *rule = &rules[rule_count];
    char action[32], nth[32];
    int used = 0;
    if (sscanf(text, "%31[^|]|%15[^|]|%255[^|]|%31[^\n]%n", action, rule->operation, rule->pattern, nth, &used) < 4)
      die("a rule is malformed");
    if (strcmp(action, "kill-before") == 0) rule->action = KILL_BEFORE;
    else if (strcmp(action, "kill-after") == 0) rule->action = KILL_AFTER;
    else if (strcmp(action, "kill-middle") == 0) rule->action = KILL_MIDDLE;
    else if (sscanf(action, "fail-%d", &rule->error) == 1) rule->action = FAIL;
    else die("a rule has an unknown action");
    rule->nth = atol(nth);
    rule->onwards = nth[strlen(nth) - 1] == '+';
    rule_count += 1;
    text += used;
    if (*text == '\n') text += 1;
  }
}

__attribute__((constructor)) static void start(void) {
  real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  const char *text = getenv("FAULTS_ROOT");
  if (text == NULL || *text != '/') return;
  snprintf(root, sizeof root, "%s", text);
  root_length = strlen(root);
  if ((text = getenv("FAULTS_SKIP_SYNC")) != NULL) skip_sync = *text == '1';
  if ((text = getenv("FAULTS_SYNC_US")) != NULL) sync_us = atol(text);
  if ((text = getenv("FAULTS_SEED")) != NULL) random_state ^= strtoull(text, NULL, 10) * 0x9E3779B97F4A7C15ull;
  if (random_state == 0) random_state = 1;
  if ((text = getenv("FAULTS_WHILE")) != NULL) snprintf(while_file, sizeof while_file, "%s", text);
  if ((text = getenv("FAULTS_RULES")) != NULL) read_rules(text);
  if ((text = getenv("FAULTS_LOG")) != NULL) {
    log_fd = (int)real_syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) die("the record cannot be opened");
  }
}

static void append(int op, int flags, const char *first, const char *second, int fd, int64_t offset,
                   const struct iovec *data, int count, uint64_t size) {
  if (log_fd < 0) return;
  size_t first_length = first == NULL ? 0 : strlen(first), second_length = second == NULL ? 0 : strlen(second);
  struct header header = {
    .length = (uint32_t)(sizeof header + first_length + second_length + (data == NULL ? 0 : size)),
    .op = (uint8_t)op, .flags = (uint8_t)flags, .first_path = (uint16_t)first_length,
    .second_path = (uint16_t)second_length, .fd = fd, .pid = (uint32_t)getpid(), .offset = offset, .size = size,
  };
  struct iovec parts[1028];
  int used = 0;
  parts[used++] = (struct iovec){&header, sizeof header};
  if (first_length > 0) parts[used++] = (struct iovec){(void *)first, first_length};
  if (second_length > 0) parts[used++] = (struct iovec){(void *)second, second_length};
  if (count > 1020) die("a write has too many parts");
  uint64_t left = data == NULL ? 0 : size;
  for (int at = 0; at < count && left > 0; at += 1) {
    size_t length = data[at].iov_len < left ? data[at].iov_len : left;
    if (length > 0) parts[used++] = (struct iovec){data[at].iov_base, length};
    left -= length;
  }
  if (real_syscall(SYS_writev, log_fd, parts, used) != (long)header.length) die("the record cannot be written");
}

/* The path as recorded, or NULL when it is none of ours. Write-ahead log indexes live in memory only. */
static const char *ours(int directory, const char *path, char *buffer) {
  if (root_length == 0 || path == NULL) return NULL;
  if (*path != '/') {
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
      if (real_syscall(SYS_getcwd, base, sizeof base) < 0) return NULL;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
      long length = real_syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
      if (length < 0) return NULL;
      base[length] = 0;
    }
    if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
    path = buffer;
  }
  if (strncmp(path, root, root_length) != 0 || (path[root_length] != '/' && path[root_length] != 0)) return NULL;
  size_t length = strlen(path);
  if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return NULL;
  return path;
}

static const char *relative(const char *path) {
  return path[root_length] == '/' ? path + root_length + 1 : path + root_length;
}

/* The rule that applies now, if any. Called with the lock held. */
static struct rule *applying(const char *operation, const char *path) {
  if (rule_count == 0) return NULL;
  if (*while_file != 0 && real_syscall(SYS_faccessat, AT_FDCWD, while_file, F_OK) != 0) return NULL;
  struct rule *found = NULL;
  for (int at = 0; at < rule_count; at += 1) {
    struct rule *rule = &rules[at];
    if (strcmp(rule->operation, operation) != 0 || fnmatch(rule->pattern, relative(path), 0) != 0) continue;
    rule->seen += 1;
    if (rule->seen == rule->nth || (rule->onwards && rule->seen > rule->nth)) found = rule;
  }
  return found;
}

static void kill_now(void) {
  real_syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static int fails(struct rule *rule) {
  if (rule == NULL) return 0;
  if (rule->action == KILL_BEFORE) kill_now();
  if (rule->action != FAIL) return 0;
  errno = rule->error;
  return 1;
}

static void done(struct rule *rule) {
  if (rule != NULL && (rule->action == KILL_AFTER || rule->action == KILL_MIDDLE)) kill_now();
}

static void lock(void) { pthread_mutex_lock(&mutex); }
static void unlock(void) { pthread_mutex_unlock(&mutex); }
static const char *path_of(int fd) { return fd >= 0 && fd < MAX_FD ? __atomic_load_n(&paths[fd], __ATOMIC_ACQUIRE) : NULL; }

/* --- opening and closing --- */

static int open_ours(const char *path, int flags, mode_t mode) {
  lock();
  struct rule *rule = NULL;
  if ((flags & O_CREAT) != 0 && real_syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0) rule = applying("create", path);
  if (fails(rule)) {
    unlock();
    return -1;
  }
  int fd = (int)real_syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  int error = errno;
  if (fd >= 0) {
    if (fd >= MAX_FD) die("too many open files");
    __atomic_store_n(&paths[fd], strdup(path), __ATOMIC_RELEASE);
    append(OP_OPEN, ((flags & O_CREAT) != 0 ? FLAG_CREATE : 0) | ((flags & O_TRUNC) != 0 ? FLAG_TRUNCATE : 0), path,
           NULL, fd, 0, NULL, 0, 0);
    if ((flags & O_TMPFILE) == O_TMPFILE) append(OP_UNSUPPORTED, 0, "O_TMPFILE", NULL, fd, 0, NULL, 0, 0);
    done(rule);
  }
  unlock();
  errno = error;
  return fd;
}

#define OPEN_FUNCTION(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    mode_t mode = 0; \
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) { \
      va_list list; \
      va_start(list, flags); \
      mode = va_arg(list, mode_t); \
      va_end(list); \
    } \
    char buffer[PATH_MAX]; \
    const char *full = ours(AT_FDCWD, path, buffer); \
    return full == NULL ? real(path, flags, mode) : open_ours(full, flags | O_LARGEFILE, mode); \
  }
OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)

#define OPENAT_FUNCTION(name) \
  int name(int directory, const char *path, int flags, ...) { \
    REAL(name); \
    mode_t mode = 0; \
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) { \
      va_list list; \
      va_start(list, flags); \
      mode = va_arg(list, mode_t); \
      va_end(list); \
    } \
    char buffer[PATH_MAX]; \
    const char *full = ours(directory, path, buffer); \
    return full == NULL ? real(directory, path, flags, mode) : open_ours(full, flags | O_LARGEFILE, mode); \
  }
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)

int close(int fd) {
  REAL(close);
  if (path_of(fd) == NULL) return real(fd);
  lock();
  append(OP_CLOSE, 0, NULL, NULL, fd, 0, NULL, 0, 0);
  free(paths[fd]);
  __atomic_store_n(&paths[fd], NULL, __ATOMIC_RELEASE);
  int result = real(fd);
  unlock();
  return result;
}

/* --- contents --- */

static ssize_t write_ours(int fd, const struct iovec *parts, int count, off_t offset) {
  lock();
  struct rule *rule = applying("write", path_of(fd));
  if (fails(rule)) {
    unlock();
    return -1;
  }
  struct iovec half;
  if (rule != NULL && rule->action == KILL_MIDDLE && count > 0) {
    half = (struct iovec){parts[0].iov_base, parts[0].iov_len / 2};
    parts = &half;
    count = 1;
  }
  ssize_t written = offset < 0 ? (ssize_t)real_syscall(SYS_writev, fd, parts, count)
                               : (ssize_t)real_syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
  int error = errno;
  if (written >= 0) {
    if (offset < 0) offset = (off_t)real_syscall(SYS_lseek, fd, 0L, SEEK_CUR) - written;
    if (written > 0) append(OP_WRITE, 0, NULL, NULL, fd, offset, parts, count, (uint64_t)written);
    done(rule);
  }
  unlock();
  errno = error;
  return written;
}

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  if (path_of(fd) == NULL) return real(fd, data, size);
  struct iovec part = {(void *)data, size};
  return write_ours(fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  return path_of(fd) == NULL ? real(fd, parts, count) : write_ours(fd, parts, count, -1);
}

#define PWRITE_FUNCTION(name, type) \
  ssize_t name(int fd, const void *data, size_t size, type offset) { \
    REAL(name); \
    if (path_of(fd) == NULL) return real(fd, data, size, offset); \
    struct iovec part = {(void *)data, size}; \
    return write_ours(fd, &part, 1, offset); \
  }
PWRITE_FUNCTION(pwrite, off_t)
PWRITE_FUNCTION(pwrite64, off64_t)

#define PWRITEV_FUNCTION(name, type) \
  ssize_t name(int fd, const struct iovec *parts, int count, type offset) { \
    REAL(name); \
    return path_of(fd) == NULL ? real(fd, parts, count, offset) : write_ours(fd, parts, count, offset); \
  }
PWRITEV_FUNCTION(pwritev, off_t)
PWRITEV_FUNCTION(pwritev64, off64_t)

static int truncate_ours(int fd, off_t size) {
  lock();
  struct rule *rule = applying("truncate", path_of(fd));
  if (fails(rule)) {
    unlock();
    return -1;
  }
  int result = (int)real_syscall(SYS_ftruncate, fd, (long)size);
  int error = errno;
  if (result == 0) {
    append(OP_TRUNCATE, 0, NULL, NULL, fd, size, NULL, 0, 0);
    done(rule);
  }
  unlock();
  errno = error;
  return result;
}

int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  return path_of(fd) == NULL ? real(fd, size) : truncate_ours(fd, size);
}
int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  return path_of(fd) == NULL ? real(fd, size) : truncate_ours(fd, size);
}

/* --- flushing --- */

static int sync_ours(int fd, int number) {
  struct stat status;
  int is_directory = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  lock();
  struct rule *rule = applying(is_directory ? "sync-directory" : "sync", path_of(fd));
  int64_t id = ++last_sync;
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  long delay_us = sync_us > 0 ? (long)(random_state % (uint64_t)sync_us) : 0;
  if (fails(rule)) {
    unlock();
    return -1;
  }
  append(OP_SYNC_BEGIN, 0, NULL, NULL, fd, id, NULL, 0, 0);
  unlock();
  if (delay_us > 0) {
    struct timespec delay = {delay_us / 1000000, delay_us % 1000000 * 1000};
    nanosleep(&delay, NULL);
  }
  int result = skip_sync ? 0 : (int)real_syscall(number, fd);
  if (result != 0) return result;
  lock();
  append(OP_SYNC_END, 0, NULL, NULL, fd, id, NULL, 0, 0);
  done(rule);
  unlock();
  return 0;
}

int fsync(int fd) {
  REAL(fsync);
  return path_of(fd) == NULL ? real(fd) : sync_ours(fd, SYS_fsync);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  return path_of(fd) == NULL ? real(fd) : sync_ours(fd, SYS_fdatasync);
}

/* --- names --- */

static int names_ours(int op, const char *operation, const char *first, const char *second, mode_t mode, int flags) {
  lock();
  struct rule *rule = applying(operation, second != NULL ? second : first);
  if (fails(rule)) {
    unlock();
    return -1;
  }
  long result = -1;
  switch (op) {
    case OP_RENAME: result = real_syscall(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, second, flags); break;
    case OP_LINK: result = real_syscall(SYS_linkat, AT_FDCWD, first, AT_FDCWD, second, flags); break;
    case OP_UNLINK: result = real_syscall(SYS_unlinkat, AT_FDCWD, first, 0); break;
    case OP_RMDIR: result = real_syscall(SYS_unlinkat, AT_FDCWD, first, AT_REMOVEDIR); break;
    case OP_MKDIR: result = real_syscall(SYS_mkdirat, AT_FDCWD, first, mode); break;
  }
  int error = errno;
  if (result == 0) {
    append(op, 0, first, second, 0, 0, NULL, 0, 0);
    if (flags != 0) append(OP_UNSUPPORTED, 0, operation, "with flags", 0, 0, NULL, 0, 0);
    done(rule);
  }
  unlock();
  errno = error;
  return (int)result;
}

static int two_names(int op, const char *operation, int from_directory, const char *from, int to_directory,
                     const char *to, int flags, int *result) {
  char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
  const char *from_full = ours(from_directory, from, from_buffer), *to_full = ours(to_directory, to, to_buffer);
  if (from_full == NULL && to_full == NULL) return 0;
  if (from_full == NULL || to_full == NULL) {
    lock();
    append(OP_UNSUPPORTED, 0, operation, "across the border", 0, 0, NULL, 0, 0);
    unlock();
    return 0;
  }
  *result = names_ours(op, operation, from_full, to_full, 0, flags);
  return 1;
}

int rename(const char *from, const char *to) {
  REAL(rename);
  int result;
  return two_names(OP_RENAME, "rename", AT_FDCWD, from, AT_FDCWD, to, 0, &result) ? result : real(from, to);
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) {
  REAL(renameat);
  int result;
  return two_names(OP_RENAME, "rename", from_directory, from, to_directory, to, 0, &result)
           ? result : real(from_directory, from, to_directory, to);
}
int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
  REAL(renameat2);
  int result;
  return two_names(OP_RENAME, "rename", from_directory, from, to_directory, to, (int)flags, &result)
           ? result : real(from_directory, from, to_directory, to, flags);
}
int link(const char *from, const char *to) {
  REAL(link);
  int result;
  return two_names(OP_LINK, "link", AT_FDCWD, from, AT_FDCWD, to, 0, &result) ? result : real(from, to);
}
int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
  REAL(linkat);
  int result;
  return two_names(OP_LINK, "link", from_directory, from, to_directory, to, flags, &result)
           ? result : real(from_directory, from, to_directory, to, flags);
}

int unlink(const char *path) {
  REAL(unlink);
  char buffer[PATH_MAX];
  const char *full = ours(AT_FDCWD, path, buffer);
  return full == NULL ? real(path) : names_ours(OP_UNLINK, "unlink", full, NULL, 0, 0);
}
int unlinkat(int directory, const char *path, int flags) {
  REAL(unlinkat);
  char buffer[PATH_MAX];
  const char *full = ours(directory, path, buffer);
  if (full == NULL) return real(directory, path, flags);
  return (flags & AT_REMOVEDIR) != 0 ? names_ours(OP_RMDIR, "rmdir", full, NULL, 0, 0)
                                     : names_ours(OP_UNLINK, "unlink", full, NULL, 0, 0);
}
int rmdir(const char *path) {
  REAL(rmdir);
  char buffer[PATH_MAX];
  const char *full = ours(AT_FDCWD, path, buffer);
  return full == NULL ? real(path) : names_ours(OP_RMDIR, "rmdir", full, NULL, 0, 0);
}
/* Node's rmSync: the C library's own would call unlink and rmdir behind our back. */
int remove(const char *path) {
  struct stat info;
  return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) ? rmdir(path) : unlink(path);
}
int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  char buffer[PATH_MAX];
  const char *full = ours(AT_FDCWD, path, buffer);
  return full == NULL ? real(path, mode) : names_ours(OP_MKDIR, "mkdir", full, NULL, mode, 0);
}

/* --- what the record cannot express is recorded as such, and the test refuses it --- */

static void unsupported(const char *what, int fd) {
  const char *path = path_of(fd);
  if (path == NULL) return;
  lock();
  append(OP_UNSUPPORTED, 0, what, path, fd, 0, NULL, 0, 0);
  unlock();
}

/* --- libuv closes files, and would use io_uring, by the bare system call --- */

long syscall(long number, ...) {
  if (real_syscall == NULL) real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (int at = 0; at < 6; at += 1) arguments[at] = va_arg(list, long);
  va_end(list);
  if (number == SYS_close) return close((int)arguments[0]);
  if (number == SYS_io_uring_setup && root_length > 0) {
    errno = ENOSYS;
    return -1;
  }
  if (number == SYS_copy_file_range) unsupported("copy_file_range", (int)arguments[2]);
  return real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

/* --- calls that none of ours makes today --- */

#define MMAP_FUNCTION(name, type) \
  void *name(void *address, size_t size, int protection, int flags, int fd, type offset) { \
    REAL(name); \
    if (fd >= 0 && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) unsupported("a writable mapping", fd); \
    return real(address, size, protection, flags, fd, offset); \
  }
MMAP_FUNCTION(mmap, off_t)
MMAP_FUNCTION(mmap64, off64_t)

#define SENDFILE_FUNCTION(name, type) \
  ssize_t name(int to, int from, type *offset, size_t size) { \
    REAL(name); \
    unsupported("sendfile", to); \
    return real(to, from, offset, size); \
  }
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile64(int, int, off64_t *, size_t);
SENDFILE_FUNCTION(sendfile, off_t)
SENDFILE_FUNCTION(sendfile64, off64_t)

#define FALLOCATE_FUNCTION(name, type) \
  int name(int fd, int mode, type offset, type size) { \
    REAL(name); \
    unsupported("fallocate", fd); \
    return real(fd, mode, offset, size); \
  }
FALLOCATE_FUNCTION(fallocate, off_t)
FALLOCATE_FUNCTION(fallocate64, off64_t)

int dup(int fd) {
  REAL(dup);
  unsupported("dup", fd);
  return real(fd);
}

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t size, unsigned flags) {
  REAL(copy_file_range);
  unsupported("copy_file_range", to);
  return real(from, from_offset, to, to_offset, size, flags);
}
