/*
 * User-Mode Linux 6.1 hands the kernel register images of a fixed size (2696 bytes) by ptrace; on processors with more state
 * (AMX) the kernel takes nothing but its own full size. Preloaded, this fills them up. Elsewhere it changes nothing.
 */
#define _GNU_SOURCE
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <stdarg.h>
#include <string.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <errno.h>
#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif
#define MAX 32768
static size_t full;
static char buf[MAX] __attribute__((aligned(64)));
long ptrace(enum __ptrace_request req, ...) {
  va_list ap; va_start(ap, req); pid_t pid = va_arg(ap, pid_t); void *addr = va_arg(ap, void *); void *data = va_arg(ap, void *); va_end(ap);
  if (req == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE) {
    struct iovec *u = data;
    if (!full) { struct iovec g = { buf, MAX }; if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &g) == 0) full = g.iov_len; }
    if (full > u->iov_len) {
      memset(buf, 0, full); memcpy(buf, u->iov_base, u->iov_len);
      uint64_t *bv = (uint64_t *)(buf + 512); *bv &= ~(3ull << 17); /* no AMX */
      struct iovec s = { buf, full };
      return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, addr, &s);
    }
  }
  long ret, val;
  if (req == PTRACE_PEEKTEXT || req == PTRACE_PEEKDATA || req == PTRACE_PEEKUSER) { ret = syscall(SYS_ptrace, req, pid, addr, &val); return ret < 0 ? ret : (errno = 0, val); }
  return syscall(SYS_ptrace, req, pid, addr, data);
}
