/*
 * RocksDB by its C API, doing what the contenders in src/ do (workload.rs says what), and printing the same JSON.
 *
 *     rocksdb run    DIR MESSAGES SIZE WRITERS
 *     rocksdb fill   DIR MESSAGES SIZE WRITERS
 *     rocksdb reopen DIR
 *
 * Natural group commit: one thread takes all that waits, writes it as one batch with one sync, then answers everybody.
 * Writers are no threads, as they are none in the other contenders: two threads carry them, and a writer whose message was
 * answered goes on when its thread finds it. Blob files with garbage collection are on, compression is off, all else is the
 * library's default. Any error ends the process: there is no figure then.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 250, POOL = 4 << 20, THREADS = 2, KEY = 16, WRITERS_MAX = 4096 };
#define KEPT_NS 1000000000ull /* how long after its yes a message is read and deleted */

static void die(const char *what) {
    fprintf(stderr, "rocksdb: %s\n", what);
    exit(1);
}

static void check(char *error) {
    if (error) die(error);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void *allocated(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory) die("no memory");
    return memory;
}

/* ---- messages: cut from a pool of random bytes, the number in front ---- */

static unsigned char *pool;
static size_t size, messages, writers;

static void make_pool(void) {
    uint64_t state = 7;
    pool = allocated(POOL + size + PAYLOAD + 8);
    for (size_t i = 0; i < POOL + size + PAYLOAD; i += 8) {
        state += 0x9e3779b97f4a7c15ull;
        uint64_t z = state;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        memcpy(pool + i, &z, 8);
    }
}

static void cut(unsigned char *to, uint64_t number, size_t bytes) {
    memcpy(to, pool + number * 0x9e3779b97f4a7c15ull % POOL, bytes);
    memcpy(to, &number, 8);
}

static int is_cut(const unsigned char *bytes, uint64_t number, size_t length) {
    const unsigned char *from = pool + number * 0x9e3779b97f4a7c15ull % POOL;
    return memcmp(bytes, &number, 8) == 0 && memcmp(bytes + 8, from + 8, length - 8) == 0;
}

static void make_key(unsigned char key[KEY], uint64_t number) {
    uint64_t halves[2] = {__builtin_bswap64(number), __builtin_bswap64(number * 0x9e3779b97f4a7c15ull)};
    memcpy(key, halves, KEY);
}

/* ---- the store ---- */

static rocksdb_t *db;
static rocksdb_options_t *options;
static rocksdb_writeoptions_t *synced;
static rocksdb_readoptions_t *reading;

static void open_store(const char *dir) {
    options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_files(options, 1);
    rocksdb_options_set_min_blob_size(options, 1024);
    rocksdb_options_set_blob_compression_type(options, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_gc(options, 1);
    synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(synced, 1);
    reading = rocksdb_readoptions_create();
    char *error = NULL;
    db = rocksdb_open(options, dir, &error);
    check(error);
}

/* ---- group commit ---- */

struct writer {
    struct writer *next; /* in the inbox of the commit thread, then in that of its own thread */
    unsigned char *value;
    uint64_t number, handed_ns;
    int thread;
};

struct end {
    struct end *next;
    uint64_t number;
};

static pthread_mutex_t inbox_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t inbox_arrived = PTHREAD_COND_INITIALIZER;
static struct writer *inbox_puts;
static struct end *inbox_ends;
static int inbox_closed;
static uint64_t ended, syncs; /* ended: under inbox_lock */

static struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct writer *answered;
} mailboxes[THREADS];

static void answer(struct writer *writer) {
    struct mailbox *box = &mailboxes[writer->thread];
    pthread_mutex_lock(&box->lock);
    writer->next = box->answered;
    box->answered = writer;
    pthread_mutex_unlock(&box->lock);
    pthread_cond_signal(&box->arrived);
}

static void *commit_all(void *unused) {
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (;;) {
        pthread_mutex_lock(&inbox_lock);
        while (!inbox_puts && !inbox_ends && !inbox_closed) pthread_cond_wait(&inbox_arrived, &inbox_lock);
        struct writer *puts = inbox_puts;
        struct end *ends = inbox_ends;
        inbox_puts = NULL;
        inbox_ends = NULL;
        pthread_mutex_unlock(&inbox_lock);
        if (!puts && !ends) break;

        unsigned char key[KEY];
        uint64_t deleted = 0;
        rocksdb_writebatch_clear(batch);
        for (struct writer *w = puts; w; w = w->next) {
            make_key(key, w->number);
            rocksdb_writebatch_put(batch, (char *)key, KEY, (char *)w->value, PAYLOAD + size);
        }
        while (ends) {
            struct end *end = ends;
            ends = end->next;
            make_key(key, end->number);
            rocksdb_writebatch_delete(batch, (char *)key, KEY);
            free(end);
            deleted++;
        }
        char *error = NULL;
        rocksdb_write(db, synced, batch, &error);
        check(error);
        pthread_mutex_lock(&inbox_lock);
        ended += deleted;
        syncs++;
        pthread_mutex_unlock(&inbox_lock);
        while (puts) {
            struct writer *writer = puts;
            puts = writer->next;
            answer(writer);
        }
    }
    rocksdb_writebatch_destroy(batch);
    return unused;
}

/* ---- the consumer ---- */

static struct {
    uint64_t number, since_ns;
} *kept;                                   /* in order of the answers */
static uint64_t kept_count, next_number;   /* atomic */
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep(uint64_t number, uint64_t since_ns) {
    pthread_mutex_lock(&kept_lock);
    kept[kept_count].number = number;
    kept[kept_count].since_ns = since_ns;
    __atomic_store_n(&kept_count, kept_count + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&kept_lock);
}

static void *consume(void *unused) {
    for (uint64_t at = 0; at < messages;) {
        if (at == __atomic_load_n(&kept_count, __ATOMIC_ACQUIRE) || now_ns() - kept[at].since_ns < KEPT_NS) {
            sleep_ms(2);
            continue;
        }
        uint64_t number = kept[at++].number;
        unsigned char key[KEY];
        make_key(key, number);
        char *error = NULL;
        rocksdb_pinnableslice_t *found = rocksdb_get_pinned(db, reading, (char *)key, KEY, &error);
        check(error);
        size_t length = 0;
        const unsigned char *value = found ? (const unsigned char *)rocksdb_pinnableslice_value(found, &length) : NULL;
        if (length != PAYLOAD + size || !is_cut(value, ~number, PAYLOAD) || !is_cut(value + PAYLOAD, number, size))
            die("a message is not what was written");
        rocksdb_pinnableslice_destroy(found);
        struct end *end = allocated(sizeof *end);
        end->number = number;
        pthread_mutex_lock(&inbox_lock);
        end->next = inbox_ends;
        inbox_ends = end;
        pthread_mutex_unlock(&inbox_lock);
        pthread_cond_signal(&inbox_arrived);
    }
    return unused;
}

/* ---- the writers ---- */

static struct writer all_writers[WRITERS_MAX];
static uint32_t *latencies; /* by message, in microseconds */
static int consumed;

/* False if there is nothing left to write. */
static int hand_over(struct writer *writer) {
    writer->number = __atomic_fetch_add(&next_number, 1, __ATOMIC_RELAXED);
    if (writer->number >= messages) return 0;
    cut(writer->value, ~writer->number, PAYLOAD);
    cut(writer->value + PAYLOAD, writer->number, size);
    writer->handed_ns = now_ns();
    pthread_mutex_lock(&inbox_lock);
    writer->next = inbox_puts;
    inbox_puts = writer;
    pthread_mutex_unlock(&inbox_lock);
    pthread_cond_signal(&inbox_arrived);
    return 1;
}

static void *carry_writers(void *argument) {
    int thread = (int)(intptr_t)argument;
    struct mailbox *box = &mailboxes[thread];
    size_t busy = 0;
    for (size_t i = (size_t)thread; i < writers; i += THREADS) {
        all_writers[i].thread = thread;
        all_writers[i].value = allocated(PAYLOAD + size);
        busy += (size_t)hand_over(&all_writers[i]);
    }
    while (busy) {
        pthread_mutex_lock(&box->lock);
        while (!box->answered) pthread_cond_wait(&box->arrived, &box->lock);
        struct writer *answered = box->answered;
        box->answered = NULL;
        pthread_mutex_unlock(&box->lock);
        while (answered) {
            struct writer *writer = answered;
            answered = writer->next;
            uint64_t now = now_ns();
            latencies[writer->number] = (uint32_t)((now - writer->handed_ns) / 1000);
            if (consumed) keep(writer->number, now);
            busy -= (size_t)!hand_over(writer);
        }
    }
    return NULL;
}

/* ---- what it took ---- */

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double field(const char *path, const char *name) {
    char line[256];
    double value = 0;
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) value = strtod(line + strlen(name), NULL);
    fclose(file);
    return value;
}

static double disk_bytes(const char *dir) {
    double bytes = 0;
    DIR *entries = opendir(dir);
    if (!entries) return 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        char path[4096];
        struct stat found;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) >= (int)sizeof path || lstat(path, &found)) continue;
        bytes += (double)found.st_blocks * 512;
        if (S_ISDIR(found.st_mode)) bytes += disk_bytes(path);
    }
    closedir(entries);
    return bytes;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double latency_at(double share) {
    return latencies[(size_t)((double)(messages - 1) * share)] / 1e3;
}

static void run(const char *dir) {
    pthread_t committer, consumer, threads[THREADS];
    make_pool();
    latencies = allocated(messages * sizeof *latencies);
    kept = allocated(messages * sizeof *kept);
    open_store(dir);
    uint64_t started = now_ns();
    pthread_create(&committer, NULL, commit_all, NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_mutex_init(&mailboxes[i].lock, NULL);
        pthread_cond_init(&mailboxes[i].arrived, NULL);
    }
    if (consumed) pthread_create(&consumer, NULL, consume, NULL);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, carry_writers, (void *)(intptr_t)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    uint64_t taken = now_ns() - started, drained = 0;
    if (consumed) {
        pthread_join(consumer, NULL);
        for (uint64_t done = 0; done < messages; sleep_ms(1)) {
            pthread_mutex_lock(&inbox_lock);
            done = ended;
            pthread_mutex_unlock(&inbox_lock);
        }
        drained = now_ns() - started - taken;
    }
    sleep_ms(2000);
    double disk = disk_bytes(dir);
    if (consumed) {
        pthread_mutex_lock(&inbox_lock);
        inbox_closed = 1;
        pthread_mutex_unlock(&inbox_lock);
        pthread_cond_signal(&inbox_arrived);
        pthread_join(committer, NULL);
        rocksdb_close(db);
    }
    qsort(latencies, messages, sizeof *latencies, by_size);
    printf("{\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"cpu_s\":%.2f,\"rss_mib\":%.1f,"
           "\"written_mib\":%.1f,\"disk_mib\":%.1f,\"syncs\":%llu,\"drained_s\":%.2f}\n",
           (double)messages / ((double)taken / 1e9), latency_at(0.5), latency_at(0.99), latency_at(0.999), cpu_seconds(),
           field("/proc/self/status", "VmHWM:") / 1024, field("/proc/self/io", "write_bytes:") / 1048576, disk / 1048576,
           (unsigned long long)syncs, (double)drained / 1e9);
    fflush(stdout);
    /* After a fill the store is left as a crash would leave it. */
    _exit(0);
}

static void reopen(const char *dir) {
    uint64_t started = now_ns(), found = 0;
    open_store(dir);
    uint64_t opened = now_ns() - started;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(db, reading);
    for (rocksdb_iter_seek_to_first(iterator); rocksdb_iter_valid(iterator); rocksdb_iter_next(iterator)) found++;
    printf("{\"open_ms\":%.1f,\"listed_ms\":%.1f,\"messages\":%llu,\"cpu_s\":%.2f,\"rss_mib\":%.1f}\n",
           (double)opened / 1e6, (double)(now_ns() - started) / 1e6, (unsigned long long)found, cpu_seconds(),
           field("/proc/self/status", "VmHWM:") / 1024);
    fflush(stdout);
    _exit(0);
}

int main(int count, char **words) {
    if (count == 3 && strcmp(words[1], "reopen") == 0) reopen(words[2]);
    if (count != 6 || (strcmp(words[1], "run") && strcmp(words[1], "fill")))
        die("run DIR MESSAGES SIZE WRITERS, fill DIR MESSAGES SIZE WRITERS or reopen DIR");
    consumed = strcmp(words[1], "run") == 0;
    messages = strtoull(words[3], NULL, 10);
    size = strtoull(words[4], NULL, 10);
    writers = strtoull(words[5], NULL, 10);
    if (messages == 0 || size < PAYLOAD || writers == 0 || writers > WRITERS_MAX) die("numbers out of range");
    run(words[2]);
}
