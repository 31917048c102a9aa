/* replay.c - runs a fuzz target over files: the corpus in every test run, one crash when debugging. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data;
    size_t n;

    if (!f || fstat(fileno(f), &st) != 0) {
        perror(path);
        exit(1);
    }
    data = malloc((size_t)st.st_size + 1); /* exact size: a read past the end is caught */
    n = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
    data = realloc(data, n ? n : 1);
    fclose(f);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

static int replay_dir(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    int count = 0;
    char child[4096];

    while (dir && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(child, sizeof child, "%s/%s", path, e->d_name);
        count += replay_file(child);
    }
    if (dir)
        closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    struct stat st;
    int count = 0;

    for (int i = 1; i < argc; i++)
        count += stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ? replay_dir(argv[i])
                                                                 : replay_file(argv[i]);
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1; /* a test that tried nothing did not pass */
}
