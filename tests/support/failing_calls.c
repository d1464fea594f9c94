/* Preloaded into a process, it lets one system call fail, or ends or halts the process there.
 *
 * Only calls on files below the folders of FAIL_BELOW (separated by ':') count, over all processes
 * that inherit it: open, read, write, fsync, rename, close, mkdir. FAIL_STATE names a file of two
 * 64-bit numbers that they share, calls so far and the id of the process whose call was the chosen
 * one (0: none yet). Call number FAIL_AT (from 1 on; 0: none) fails with errno FAIL_ERRNO, or kills
 * the process where that is 0, or halts it where that is -1. The calls are written to the file
 * FAIL_TRACE, if that is set. All of it is read at each call, so a process that was started without
 * these settings can fork one that has them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

typedef int (*open_fn)(const char *, int, ...);
typedef int (*openat_fn)(int, const char *, int, ...);

static volatile long *state(void) {
  static volatile long *shared = NULL;
  const char *path = getenv("FAIL_STATE");
  if (shared || !path) return shared;
  int file = REAL("open", open_fn)(path, O_RDWR);
  if (file < 0) return NULL;
  void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  REAL("close", int (*)(int))(file);
  if (at != MAP_FAILED) shared = at;
  return shared;
}

static int below(const char *path) {
  const char *folders = getenv("FAIL_BELOW");
  while (folders && *folders) {
    size_t length = strcspn(folders, ":");
    if (length && !strncmp(path, folders, length) && (path[length] == '/' || !path[length])) return 1;
    folders += length + (folders[length] == ':');
  }
  return 0;
}

static void trace(const char *what, const char *path) {
  const char *name = getenv("FAIL_TRACE");
  if (!name) return;
  char line[PATH_MAX + 32];
  int length = snprintf(line, sizeof line, "%s %s\n", what, path);
  int file = REAL("open", open_fn)(name, O_WRONLY | O_APPEND);
  if (file < 0) return;
  syscall(SYS_write, file, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
  REAL("close", int (*)(int))(file);
}

/* 1 where this call must fail; errno is set. */
static int fail(const char *what, const char *path) {
  if (!path || !below(path)) return 0;
  volatile long *shared = state();
  const char *at = getenv("FAIL_AT"), *number = getenv("FAIL_ERRNO");
  if (!shared) return 0;
  int before = errno;
  trace(what, path);
  errno = before;
  long call = __sync_add_and_fetch(&shared[0], 1);
  if (!at || call != atol(at)) return 0;
  shared[1] = getpid();
  int wanted = number ? atoi(number) : 0;
  if (wanted <= 0) kill(getpid(), wanted ? SIGSTOP : SIGKILL);
  errno = wanted > 0 ? wanted : before;
  return wanted > 0;
}

static int fail_at(const char *what, int file) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  int before = errno;
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length <= 0) return 0;
  path[length] = 0;
  return fail(what, path);
}

static int fail_path(const char *what, const char *path) {
  char complete[PATH_MAX], folder[PATH_MAX];
  if (!path || path[0] == '/') return fail(what, path);
  if (!getcwd(folder, sizeof folder)) return 0;
  if (snprintf(complete, sizeof complete, "%s/%s", folder, path) >= (int)sizeof complete) return 0;
  return fail(what, complete);
}

#define MODE(flags) mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

#define OPEN(name) int name(const char *path, int flags, ...) { \
  MODE(flags) if (fail_path("open", path)) return -1; return REAL(#name, open_fn)(path, flags, mode); }
OPEN(open)
OPEN(open64)

#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { \
  MODE(flags) if (fail_path("open", path)) return -1; \
  return REAL(#name, openat_fn)(folder, path, flags, mode); }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) FILE *name(const char *path, const char *mode) { \
  return fail_path("open", path) ? NULL : REAL(#name, FILE *(*)(const char *, const char *))(path, mode); }
FOPEN(fopen)
FOPEN(fopen64)
ssize_t read(int file, void *data, size_t count) {
  return fail_at("read", file) ? -1 : REAL("read", ssize_t (*)(int, void *, size_t))(file, data, count);
}
#define PREAD(name) ssize_t name(int file, void *data, size_t count, off_t at) { \
  return fail_at("read", file) ? -1 : REAL(#name, ssize_t (*)(int, void *, size_t, off_t))(file, data, count, at); }
PREAD(pread)
PREAD(pread64)
ssize_t write(int file, const void *data, size_t count) {
  return fail_at("write", file) ? -1 : REAL("write", ssize_t (*)(int, const void *, size_t))(file, data, count);
}
#define PWRITE(name) ssize_t name(int file, const void *data, size_t count, off_t at) { \
  return fail_at("write", file) ? -1 : REAL(#name, ssize_t (*)(int, const void *, size_t, off_t))(file, data, count, at); }
PWRITE(pwrite)
PWRITE(pwrite64)
#define SENDFILE(name) ssize_t name(int out, int in, off_t *at, size_t count) { \
  return fail_at("write", out) ? -1 : REAL(#name, ssize_t (*)(int, int, off_t *, size_t))(out, in, at, count); }
SENDFILE(sendfile)
SENDFILE(sendfile64)
int fsync(int file) { return fail_at("fsync", file) ? -1 : REAL("fsync", int (*)(int))(file); }
int rename(const char *old, const char *name) {
  return fail_path("rename", name) ? -1 : REAL("rename", int (*)(const char *, const char *))(old, name);
}
int renameat(int a, const char *old, int b, const char *name) {
  return fail_path("rename", name) ? -1 : REAL("renameat", int (*)(int, const char *, int, const char *))(a, old, b, name);
}
int mkdir(const char *path, mode_t mode) {
  return fail_path("mkdir", path) ? -1 : REAL("mkdir", int (*)(const char *, mode_t))(path, mode);
}
/* The file is closed all the same, as the system does where a close reports an error. */
int close(int file) {
  int failed = fail_at("close", file), number = errno;
  int result = REAL("close", int (*)(int))(file);
  if (failed) { errno = number; return -1; }
  return result;
}
