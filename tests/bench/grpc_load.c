/* The gRPC load client of `make bench`: one streaming call on each of many connections, one thread, epoll.
 *
 *   grpc_load fanout open N calls, then count and time the stamped frames all of them get
 *   grpc_load trace  open one call, print each `json` of an Envelope with the time of its read when stdin closes
 *
 * A stamped frame carries `"_b":"<19 digits>"`, the publisher's CLOCK_MONOTONIC in nanoseconds; a response may hold several.
 * Both print `ready` once every call has sent its request and had its response headers, and the first `--acks` messages, and end
 * with one line of JSON, as `load` does. HTTP/2 is spoken as far as a server needs it: settings, pings and windows are
 * answered, headers are not decoded. Anything unexpected ends the program with one line on stderr and status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARK "\"_b\":\""
#define MARK_BYTES (sizeof MARK - 1)
#define STAMP_DIGITS 19
#define READ_BYTES (256u << 10)
/* As large as clients' own after they have measured their line. */
#define WINDOW_BYTES (4u << 20)
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };

struct conn {
    int fd;
    int acks; /* messages that are still to come before it counts as open */
    bool is_open, has_headers;
    unsigned char *carry; /* a frame's beginning that the last read ended in */
    size_t carry_bytes;
    unsigned char *message; /* gRPC: one byte, four of length, and so much */
    size_t message_bytes, message_room;
    uint32_t taken; /* of both windows, and not yet given back */
    int64_t last_stamp;
};

/* Logarithmic buckets, 64 per power of two: 1.6 % wide at worst. */
#define SUB_BITS 6
#define BUCKETS (64 << SUB_BITS)

static struct {
    const char *host, *path, *message;
    const char *headers[8];
    int header_count, port, connections, acks;
    double seconds, warmup_s, grace_s, open_deadline_s;
    uint64_t expect;
} opt = {.host = "127.0.0.1", .path = "/", .message = "", .connections = 1, .seconds = 3, .warmup_s = 1,
         .grace_s = 1, .open_deadline_s = 60};

static bool is_trace;
static struct conn *conns;
static int epoll_fd, open_count;
static unsigned char inbox[2 * READ_BYTES];
static unsigned char request[8192];
static size_t request_bytes;
static uint64_t total_frames, window_frames, window_bytes, window_messages, unstamped, disordered;
static int64_t first_frame_ns, window_start_ns, window_end_ns, latency_max;
static uint64_t latency_count, latency[BUCKETS];
static FILE *trace;
static char *trace_text;
static size_t trace_bytes;

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("grpc_load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void record(int64_t value) {
    int bucket = value < 0 ? 0 : (int)value;
    if (value >= (1 << SUB_BITS)) {
        int shift = 63 - __builtin_clzll((uint64_t)value) - SUB_BITS;
        bucket = ((shift + 1) << SUB_BITS) + (int)((value >> shift) & ((1 << SUB_BITS) - 1));
    }
    latency_count++;
    latency[bucket]++;
    if (value > latency_max) latency_max = value;
}

/* The upper edge of the bucket, so that a quantile is never flattered. */
static double quantile_ms(double q) {
    uint64_t rank = (uint64_t)(q * (double)latency_count), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += latency[i];
        if (seen <= rank) continue;
        int shift = (i >> SUB_BITS) - 1;
        int64_t top = i;
        if (shift >= 0) top = ((int64_t)((1 << SUB_BITS) + (i & ((1 << SUB_BITS) - 1))) + 1) << shift;
        return (double)(top < latency_max ? top : latency_max) / 1e6;
    }
    return (double)latency_max / 1e6;
}

/* --- out --- */

static unsigned char *put32(unsigned char *at, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) *at++ = (unsigned char)(value >> shift);
    return at;
}

static unsigned char *put_frame(unsigned char *at, size_t bytes, int kind, int flags, uint32_t stream) {
    *at++ = (unsigned char)(bytes >> 16);
    *at++ = (unsigned char)(bytes >> 8);
    *at++ = (unsigned char)bytes;
    *at++ = (unsigned char)kind;
    *at++ = (unsigned char)flags;
    return put32(at, stream);
}

static unsigned char *put_text(unsigned char *at, const char *text, size_t bytes) {
    if (bytes > 126) fail("header of %zu bytes", bytes);
    *at++ = (unsigned char)bytes;
    memcpy(at, text, bytes);
    return at + bytes;
}

/* Literal, not indexed, not Huffman (RFC 7541, 6.2.2). */
static unsigned char *put_header(unsigned char *at, const char *name, size_t name_bytes, const char *value) {
    *at++ = 0;
    at = put_text(at, name, name_bytes);
    return put_text(at, value, strlen(value));
}

static void make_request(void) {
    unsigned char *at = request, headers[4096], *h = headers;
    char authority[64];
    snprintf(authority, sizeof authority, "%s:%d", opt.host, opt.port);
    h = put_header(h, ":method", 7, "POST");
    h = put_header(h, ":scheme", 7, "http");
    h = put_header(h, ":path", 5, opt.path);
    h = put_header(h, ":authority", 10, authority);
    h = put_header(h, "content-type", 12, "application/grpc");
    h = put_header(h, "te", 2, "trailers");
    for (int i = 0; i < opt.header_count; i++) {
        const char *colon = strchr(opt.headers[i], ':');
        if (!colon) fail("--header without a colon");
        h = put_header(h, opt.headers[i], (size_t)(colon - opt.headers[i]), colon + 1 + strspn(colon + 1, " "));
    }
    memcpy(at, PREFACE, sizeof PREFACE - 1);
    at += sizeof PREFACE - 1;
    at = put_frame(at, 6, SETTINGS, 0, 0);
    *at++ = 0;
    *at++ = 4; /* SETTINGS_INITIAL_WINDOW_SIZE */
    at = put32(at, WINDOW_BYTES);
    at = put_frame(at, 4, WINDOW_UPDATE, 0, 0);
    at = put32(at, WINDOW_BYTES - 65535);
    at = put_frame(at, (size_t)(h - headers), HEADERS, 4, 1); /* END_HEADERS */
    memcpy(at, headers, (size_t)(h - headers));
    at += h - headers;
    size_t bytes = strlen(opt.message) / 2;
    if (bytes > 2048) fail("message of %zu bytes", bytes);
    /* Not END_STREAM: a customer of a bidirectional stream keeps its side open. A request alone ends its own. */
    at = put_frame(at, 5 + bytes, DATA, 0, 1);
    *at++ = 0;
    at = put32(at, (uint32_t)bytes);
    for (size_t i = 0; i < bytes; i++) {
        unsigned int byte;
        if (sscanf(opt.message + 2 * i, "%2x", &byte) != 1) fail("--message is not hex");
        *at++ = (unsigned char)byte;
    }
    request_bytes = (size_t)(at - request);
}

static void write_all(int fd, const void *data, size_t bytes) {
    ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n >= 0 && (size_t)n != bytes) fail("short write of %zu bytes", bytes);
}

static void give_back(struct conn *c) {
    unsigned char out[26], *at = out;
    for (uint32_t stream = 0; stream < 2; stream++) {
        at = put_frame(at, 4, WINDOW_UPDATE, 0, stream);
        at = put32(at, c->taken);
    }
    c->taken = 0;
    write_all(c->fd, out, sizeof out);
}

/* --- in --- */

static void on_stamp(struct conn *c, int64_t stamp, size_t bytes, int64_t read_ns) {
    total_frames++;
    if (stamp < c->last_stamp) disordered++;
    c->last_stamp = stamp;
    if (!first_frame_ns) {
        first_frame_ns = read_ns;
        window_start_ns = read_ns + (int64_t)(opt.warmup_s * 1e9);
        window_end_ns = window_start_ns + (int64_t)(opt.seconds * 1e9);
    }
    if (read_ns < window_start_ns || read_ns >= window_end_ns) return;
    window_frames++;
    window_bytes += bytes;
    record(read_ns - stamp);
}

/* The length of a field and where its value begins; 0 for what is no message we know. */
static size_t field(const unsigned char *at, const unsigned char *end, uint64_t *tag, const unsigned char **value) {
    const unsigned char *p = at;
    uint64_t numbers[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        for (int shift = 0;; shift += 7) {
            if (p == end || shift > 63) return 0;
            numbers[i] |= (uint64_t)(*p & 0x7f) << shift;
            if (!(*p++ & 0x80)) break;
        }
    }
    *tag = numbers[0];
    *value = p;
    if ((numbers[0] & 7) != 2) return (size_t)(p - at); /* a number */
    return numbers[1] > (uint64_t)(end - p) ? 0 : (size_t)(p - at) + numbers[1];
}

/* Each `json` (field 20) of each envelope (field 1). */
static void print_envelopes(const unsigned char *at, const unsigned char *end, int64_t read_ns) {
    uint64_t tag;
    const unsigned char *envelope, *value;
    for (size_t taken; at < end; at += taken) {
        if (!(taken = field(at, end, &tag, &envelope))) fail("a response that is no StreamResponse");
        if (tag != (1 << 3 | 2)) continue;
        for (size_t inner; envelope < at + taken; envelope += inner) {
            if (!(inner = field(envelope, at + taken, &tag, &value))) fail("an envelope that cannot be read");
            if (tag != (20 << 3 | 2)) continue;
            fprintf(trace, "%lld ", (long long)read_ns);
            fwrite(value, 1, (size_t)(envelope + inner - value), trace);
            fputc('\n', trace);
            total_frames++;
        }
    }
}

static void on_message(struct conn *c, const unsigned char *text, size_t bytes, int64_t read_ns) {
    if (!c->is_open) {
        c->acks--;
        return;
    }
    if (is_trace) {
        print_envelopes(text, text + bytes, read_ns);
        return;
    }
    const unsigned char *at = text, *end = text + bytes, *hit;
    bool found = false;
    while ((hit = memmem(at, (size_t)(end - at), MARK, MARK_BYTES)) && hit + MARK_BYTES + STAMP_DIGITS <= end) {
        int64_t stamp = 0;
        for (int i = 0; i < STAMP_DIGITS; i++) stamp = stamp * 10 + (hit[MARK_BYTES + i] - '0');
        on_stamp(c, stamp, found ? 0 : bytes, read_ns);
        at = hit + MARK_BYTES + STAMP_DIGITS;
        found = true;
    }
    if (!found) unstamped++;
    else if (read_ns >= window_start_ns && read_ns < window_end_ns) window_messages++;
}

static void on_data(struct conn *c, const unsigned char *data, size_t bytes, int64_t read_ns) {
    c->taken += (uint32_t)bytes;
    if (c->message_bytes + bytes > c->message_room) {
        c->message_room = c->message_bytes + bytes + READ_BYTES;
        c->message = realloc(c->message, c->message_room);
    }
    memcpy(c->message + c->message_bytes, data, bytes);
    c->message_bytes += bytes;
    size_t at = 0;
    while (c->message_bytes - at >= 5) {
        const unsigned char *m = c->message + at;
        if (m[0]) fail("a compressed message");
        size_t length = (size_t)m[1] << 24 | (size_t)m[2] << 16 | (size_t)m[3] << 8 | m[4];
        if (c->message_bytes - at < 5 + length) break;
        on_message(c, m + 5, length, read_ns);
        at += 5 + length;
    }
    c->message_bytes -= at;
    memmove(c->message, c->message + at, c->message_bytes);
}

static size_t on_frames(struct conn *c, unsigned char *data, size_t bytes, int64_t read_ns) {
    size_t at = 0;
    while (bytes - at >= 9) {
        unsigned char *f = data + at;
        size_t length = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
        int kind = f[3], flags = f[4];
        if (length > 16384) fail("frame of %zu bytes", length);
        if (bytes - at < 9 + length) break;
        at += 9 + length;
        switch (kind) {
        case DATA:
            if (flags & 8) fail("padding");
            on_data(c, f + 9, length, read_ns);
            if (flags & 1) fail("the call was ended by the server");
            break;
        case HEADERS:
            if (flags & 1) fail("the call was ended by the server");
            c->has_headers = true;
            break;
        case SETTINGS:
            if (!(flags & 1)) {
                unsigned char ack[9];
                put_frame(ack, 0, SETTINGS, 1, 0);
                write_all(c->fd, ack, sizeof ack);
            }
            break;
        case PING:
            if (!(flags & 1)) {
                f[4] = 1;
                write_all(c->fd, f, 9 + length);
            }
            break;
        case RST_STREAM: fail("the call was reset"); break;
        case GOAWAY: fail("the server goes away"); break;
        case WINDOW_UPDATE: break;
        default: fail("frame of kind %d", kind);
        }
    }
    if (c->taken > WINDOW_BYTES / 4) give_back(c);
    if (!c->is_open && c->has_headers && c->acks <= 0) {
        c->is_open = true;
        open_count++;
    }
    return at;
}

static void on_readable(struct conn *c) {
    memcpy(inbox, c->carry, c->carry_bytes);
    ssize_t n = recv(c->fd, inbox + c->carry_bytes, READ_BYTES, 0);
    /* One stamp per read: everything it returned was there to be read at that moment. */
    int64_t read_ns = now_ns();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) fail("connection lost");
    size_t bytes = c->carry_bytes + (size_t)n, at = on_frames(c, inbox, bytes, read_ns);
    c->carry_bytes = bytes - at;
    memcpy(c->carry, inbox + at, c->carry_bytes);
}

/* One turn of the loop; true when stdin has closed. */
static bool turn(int timeout_ms) {
    struct epoll_event events[512];
    bool ended = false;
    int n = epoll_wait(epoll_fd, events, 512, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        char bin[256];
        if (c) {
            on_readable(c);
        } else if (read(0, bin, sizeof bin) <= 0) {
            ended = true;
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL);
        }
    }
    return ended;
}

static void open_all(void) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    if (inet_pton(AF_INET, opt.host, &server.sin_addr) != 1) fail("not an IPv4 address: %s", opt.host);
    int64_t deadline = now_ns() + (int64_t)(opt.open_deadline_s * 1e9);
    for (int i = 0; i < opt.connections; i++) {
        struct conn *c = &conns[i];
        int one = 1;
        c->acks = opt.acks;
        c->carry = malloc(READ_BYTES);
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0) fail("connect: %s", strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        write_all(c->fd, request, request_bytes);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
    }
    while (open_count < opt.connections) {
        turn(100);
        if (now_ns() > deadline) fail("only %d of %d calls opened", open_count, opt.connections);
    }
    puts("ready");
    fflush(stdout);
}

static void report(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu_s = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                   (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"connections\":%d,\"frames\":%llu,\"per_s\":%.1f,\"responses_per_s\":%.1f,\"bytes_per_s\":%.0f,"
           "\"total_frames\":%llu,\"unstamped\":%llu,\"disordered\":%llu,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"max_ms\":%.4f,\"cpu_s\":%.2f}\n",
           opt.connections, (unsigned long long)window_frames, (double)window_frames / opt.seconds,
           (double)window_messages / opt.seconds, (double)window_bytes / opt.seconds,
           (unsigned long long)total_frames, (unsigned long long)unstamped, (unsigned long long)disordered,
           quantile_ms(0.5), quantile_ms(0.99), (double)latency_max / 1e6, cpu_s);
}

static void parse_options(int argc, char **argv) {
    if (argc < 2 || (strcmp(argv[1], "fanout") && strcmp(argv[1], "trace")))
        fail("usage: grpc_load fanout|trace --port P --path /package.Service/Method [--option value]...");
    is_trace = !strcmp(argv[1], "trace");
    for (int i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (i + 1 == argc) fail("%s needs a value", name);
        if (!strcmp(name, "--host")) opt.host = value;
        else if (!strcmp(name, "--port")) opt.port = atoi(value);
        else if (!strcmp(name, "--path")) opt.path = value;
        else if (!strcmp(name, "--message")) opt.message = value;
        else if (!strcmp(name, "--acks")) opt.acks = atoi(value);
        else if (!strcmp(name, "--connections")) opt.connections = atoi(value);
        else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
        else if (!strcmp(name, "--warmup")) opt.warmup_s = atof(value);
        else if (!strcmp(name, "--grace")) opt.grace_s = atof(value);
        else if (!strcmp(name, "--expect")) opt.expect = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--header")) {
            if (opt.header_count == 8) fail("too many headers");
            opt.headers[opt.header_count++] = value;
        } else fail("unknown option %s", name);
    }
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    make_request();
    conns = calloc((size_t)opt.connections, sizeof *conns);
    epoll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    /* A regular file or /dev/null cannot be polled; such a stdin never ends anything. */
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &e);
    if (is_trace) trace = open_memstream(&trace_text, &trace_bytes);
    open_all();
    while (true) {
        bool ended = turn(20);
        int64_t now = now_ns();
        if (is_trace) {
            if (ended) break;
            continue;
        }
        /* stdin closes when the publisher could not publish: then there is nothing to wait for. */
        if (ended) fail("stopped before the end; %llu frames", (unsigned long long)total_frames);
        if (!first_frame_ns || now < window_end_ns) continue;
        if (opt.expect && total_frames >= opt.expect) break;
        if (now > window_end_ns + (int64_t)(opt.grace_s * 1e9)) break;
    }
    if (trace) {
        fflush(trace);
        fwrite(trace_text, 1, trace_bytes, stdout);
    }
    report();
    return 0;
}
