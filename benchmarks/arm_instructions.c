/* A plugin of QEMU that counts the guest's instructions. A system call of the number MARK, which no system has, writes
   the count so far as a line of the file that the argument out= names. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MARK 5000
#define SHOWN __attribute__((visibility("default")))

/* What of qemu-plugin.h is used, of version 1. */
typedef uint64_t plugin;
struct qemu_plugin_tb;
enum { ADD_U64 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin, void (*)(plugin, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin, void (*)(plugin, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                     uint64_t));

SHOWN int qemu_plugin_version = 1;

static uint64_t count;
static FILE *out;

static void translated(plugin id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(plugin id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h)
{
    if (number == MARK) {
        fprintf(out, "%llu\n", (unsigned long long)count);
        fflush(out);
    }
}

SHOWN int qemu_plugin_install(plugin id, const void *about, int n, char **arguments)
{
    if (n != 1 || strncmp(arguments[0], "out=", 4) != 0 || !(out = fopen(arguments[0] + 4, "w")))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
