/* load LIBRARY: how long a shared library takes to load, and how many threads the process has then. */
#include "common.h"

#include <dirent.h>
#include <dlfcn.h>

int main(int argc, char **argv)
{
    program_init();
    if (argc != 2)
        die("usage: load LIBRARY");
    double started = now();
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    double took = now() - started;
    if (!library)
        die("%s", dlerror());
    int threads = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        threads += *entry->d_name != '.';
    say("{\"load_ms\": %.3f, \"threads\": %d}", took * 1e3, threads);
    return 0;
}
