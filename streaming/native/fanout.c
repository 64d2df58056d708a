/* The loops of a fan-out, for what is plain: who is offered an envelope (`deliver` in the relay dialect,
 * `queue` in the official one), and what one turn of the event loop has for each of them, into the
 * kernel (`hand_over`).
 *
 * What is not plain is left alone and given back, and Python does it: streaming/core/hub.py and
 * streaming/core/relaying.py have these loops whole, and say what they mean. Nothing is decided here but
 * that what is plain comes first; tests/streaming/test_native_fanout.py holds the two against each other.
 *
 * Beside the kernel's part a delivery in the relay dialect takes 2.8 us in Python and 1.2 here, in the
 * official one 1.3 and 0.7. The objects are Python's own: their slots are read by offset, which `bind`
 * looks up and checks, and most of the time is memory that is not at hand. The GIL is held throughout:
 * no write blocks, and given away between two writes another thread had it for up to 5 ms.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#ifndef SOURCE
#define SOURCE "" /* a digest of this file, by build.py */
#endif

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

/* --- the shapes of Python's objects --- */

enum { STREAM, PARTS, ERA, SUBSCRIPTION, SESSION, RELAY_SESSION, FRAME, COUNTED, WRITER, ACCOUNT, TYPES };
#define MAX_SLOTS 12

static const struct {
    const char *name;
    const char *slots[MAX_SLOTS];
} SHAPES[TYPES] = {
    [STREAM] = {"Stream", {"state", "position", "is_proven", "lost", "subscription", "session", "head", "counted",
                           "is_numbered", "last_era", "last_seq"}},
    [PARTS] = {"Parts", {"begins", "rest", "size"}},
    [ERA] = {"Era", {"seq"}},
    [SUBSCRIPTION] = {"Subscription", {"streams", "era"}},
    [SESSION] = {"Session", {"pending", "sink"}},
    [RELAY_SESSION] = {"RelaySession", {"pending", "sink"}},
    [FRAME] = {"Frame", {"wire", "counted", "text_bytes"}},
    [COUNTED] = {"Counted", {"messages"}},
    [WRITER] = {"Writer", {"is_closing", "is_blocked", "fd", "sent", "_account"}},
    [ACCOUNT] = {"KeyAccount", {"_slots", "_meter"}},
};
enum { S_STATE, S_POSITION, S_PROVEN, S_LOST, S_SUBSCRIPTION, S_SESSION, S_HEAD, S_COUNTED, S_NUMBERED, S_ERA, S_SEQ };
enum { P_BEGINS, P_REST, P_SIZE };
enum { E_SEQ };
enum { U_STREAMS, U_ERA };
enum { N_PENDING, N_SINK };
enum { F_WIRE, F_COUNTED, F_TEXT_BYTES };
enum { C_MESSAGES };
enum { W_CLOSING, W_BLOCKED, W_FD, W_SENT, W_ACCOUNT };
enum { A_SLOTS, A_METER };

static PyTypeObject *types[TYPES];
static Py_ssize_t offsets[TYPES][MAX_SLOTS];
static PyObject *live; /* StreamState.LIVE */
static PyObject *str_wire, *str_text_bytes, *str_begin, *str_delivered, *str_words;

static inline PyObject **slot(PyObject *object, int type, int which)
{
    return (PyObject **)((char *)object + offsets[type][which]);
}

/* A borrowed reference, or NULL with nothing raised where the slot is empty. */
static inline PyObject *get(PyObject *object, int type, int which)
{
    return *slot(object, type, which);
}

/* Takes over `value`. */
static inline void set(PyObject *object, int type, int which, PyObject *value)
{
    PyObject **place = slot(object, type, which), *old = *place;
    *place = value;
    Py_XDECREF(old);
}

static inline int is(PyObject *object, int type)
{
    return object && Py_TYPE(object) == types[type];
}

static PyObject *bind_shapes(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *classes, *state;
    if (!PyArg_ParseTuple(args, "O!O", &PyDict_Type, &classes, &state)) return NULL;
    for (int type = 0; type < TYPES; type++) {
        PyObject *class = PyDict_GetItemString(classes, SHAPES[type].name);
        if (!class || !PyType_Check(class))
            return PyErr_Format(PyExc_TypeError, "no class %s was given", SHAPES[type].name);
        for (int which = 0; which < MAX_SLOTS && SHAPES[type].slots[which]; which++) {
            PyObject *member = PyObject_GetAttrString(class, SHAPES[type].slots[which]);
            if (!member) return NULL;
            int is_slot = Py_IS_TYPE(member, &PyMemberDescr_Type) &&
                          ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX;
            if (is_slot) offsets[type][which] = ((PyMemberDescrObject *)member)->d_member->offset;
            Py_DECREF(member);
            if (!is_slot)
                return PyErr_Format(PyExc_TypeError, "%s.%s is no slot", SHAPES[type].name, SHAPES[type].slots[which]);
        }
        Py_INCREF(class);
        Py_XSETREF(types[type], (PyTypeObject *)class);
    }
    Py_INCREF(state);
    Py_XSETREF(live, state);
    Py_RETURN_NONE;
}

/* --- deliver --- */

/* Whether place `one` is after `other`, both (height, index); -1 where they are not that. */
static int is_after(PyObject *one, PyObject *other)
{
    if (!PyTuple_Check(one) || !PyTuple_Check(other) || PyTuple_GET_SIZE(one) != 2 || PyTuple_GET_SIZE(other) != 2)
        return -1;
    for (int part = 0; part < 2; part++) {
        long long a = PyLong_AsLongLong(PyTuple_GET_ITEM(one, part));
        long long b = PyLong_AsLongLong(PyTuple_GET_ITEM(other, part));
        if ((a == -1 || b == -1) && PyErr_Occurred()) {
            PyErr_Clear();
            return -1;
        }
        if (a != b) return a > b;
    }
    return 0;
}

/* Appends. A list that was emptied by `let_go` still has its room, which Python's own would give up. */
static inline int append(PyObject *list, PyObject *item)
{
    PyListObject *of = (PyListObject *)list;
    Py_ssize_t size = Py_SIZE(of);
    if (size >= of->allocated) return PyList_Append(list, item);
    of->ob_item[size] = Py_NewRef(item);
    Py_SET_SIZE(of, size + 1);
    return 0;
}


/* 1: offered; 0: it is no news to them; -1: not plain; -2: raised. */
static int offer(PyObject *stream, PyObject *parts, PyObject *here, PyObject *dirty, int is_state)
{
    if (!is(stream, STREAM) || get(stream, STREAM, S_STATE) != live) return -1;
    PyObject *after = get(stream, STREAM, S_POSITION), *subscription = get(stream, STREAM, S_SUBSCRIPTION);
    PyObject *session = get(stream, STREAM, S_SESSION);
    if (!after || !is(subscription, SUBSCRIPTION) || !is(session, RELAY_SESSION)) return -1;
    int is_news = is_after(here, after);
    if (is_news < 0) return -1;
    if (!is_news && !is_state) return 0;
    if (get(stream, STREAM, S_PROVEN) != Py_True || get(stream, STREAM, S_LOST) != Py_None) return -1;
    PyObject *streams = get(subscription, SUBSCRIPTION, U_STREAMS), *era = get(subscription, SUBSCRIPTION, U_ERA);
    PyObject *pending = get(session, RELAY_SESSION, N_PENDING);
    if (!streams || !era || !pending || !PyDict_CheckExact(streams) || !PyList_CheckExact(pending)) return -1;
    if (!is_state && PyDict_GET_SIZE(streams) != 1) return -1;
    PyObject *item = PyTuple_Pack(4, stream, parts, after, era);
    if (!item) return -2;
    int is_bad = (!PyList_GET_SIZE(pending) && append(dirty, session)) || append(pending, item);
    Py_DECREF(item);
    if (is_bad) return -2;
    if (is_news) set(stream, STREAM, S_POSITION, Py_NewRef(here));
    return 1;
}

#define AHEAD 8

/* Asks for the lines in which an object's slots that are read here lie: a base class puts them first. */
static inline void prefetch(PyObject *object, int type)
{
    __builtin_prefetch(object, 1);
    if (type == STREAM) __builtin_prefetch((char *)object + 64, 1);
}

static inline void look_behind(PyObject *stream)
{
    if (!is(stream, STREAM)) return;
    PyObject *subscription = get(stream, STREAM, S_SUBSCRIPTION), *session = get(stream, STREAM, S_SESSION);
    if (subscription) __builtin_prefetch(subscription, 1);
    if (!is(session, RELAY_SESSION)) return;
    PyObject *pending = get(session, RELAY_SESSION, N_PENDING);
    if (pending) __builtin_prefetch(pending, 1);
}

static PyObject *deliver(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count != 5 || !PyDict_CheckExact(args[0]) || !PyList_CheckExact(args[3]))
        return PyErr_Format(PyExc_TypeError, "deliver(streams, parts, here, dirty, is_state)");
    if (!live) return PyErr_Format(PyExc_RuntimeError, "bind comes first");
    int is_state = PyObject_IsTrue(args[4]);
    if (is_state < 0) return NULL;
    PyObject *rest = PyList_New(0), *stream, *none;
    if (!rest) return NULL;
    long long given = 0;
    /* No Python code runs in here, so nobody changes the dictionary. Each of the few lines of memory
     * that a follower's delivery touches is cold, 10,000 followers being 8 MB: so the lines of those
     * who come AHEAD are asked for while this one is done, those behind a pointer a step later. */
    PyObject *ahead[AHEAD];
    Py_ssize_t place = 0, seen = 0, done = 0;
    for (int is_more = 1; is_more || done < seen;) {
        if (is_more && (is_more = PyDict_Next(args[0], &place, &stream, &none))) {
            ahead[seen++ % AHEAD] = stream;
            prefetch(stream, STREAM);
        }
        if (seen - done > AHEAD / 2) look_behind(ahead[(done + AHEAD / 2) % AHEAD]);
        if (is_more && seen - done < AHEAD) continue;
        if (done == seen) break;
        stream = ahead[done++ % AHEAD];
        int outcome = offer(stream, args[1], args[2], args[3], is_state);
        given += outcome == 1;
        if (outcome == -2 || (outcome == -1 && PyList_Append(rest, stream))) {
            Py_DECREF(rest);
            return NULL;
        }
    }
    return Py_BuildValue("LN", given, rest);
}

/* --- queue --- */

/* Asks for the lines that a session's turn begins with. */
static inline void look_at(PyObject *session)
{
    int type = is(session, SESSION) ? SESSION : is(session, RELAY_SESSION) ? RELAY_SESSION : -1;
    if (type < 0) return;
    PyObject *pending = get(session, type, N_PENDING), *writer = get(session, type, N_SINK);
    if (writer) {
        __builtin_prefetch(writer, 1);
        __builtin_prefetch((char *)writer + 64, 1);
    }
    if (pending) __builtin_prefetch(pending, 1);
}

/* 1: queued; -1: not plain; -2: raised. */
static int queue_one(PyObject *session, PyObject *frame, PyObject *dirty)
{
    if (!is(session, SESSION)) return -1;
    PyObject *pending = get(session, SESSION, N_PENDING);
    if (!pending || !PyList_CheckExact(pending)) return -1;
    return (!PyList_GET_SIZE(pending) && append(dirty, session)) || append(pending, frame) ? -2 : 1;
}

static PyObject *queue(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count != 3 || !PyDict_CheckExact(args[0]) || !PyList_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "queue(followers, frame, dirty)");
    if (!live) return PyErr_Format(PyExc_RuntimeError, "bind comes first");
    PyObject *rest = PyList_New(0), *session, *none, *ahead[AHEAD];
    if (!rest) return NULL;
    Py_ssize_t place = 0, seen = 0, done = 0;
    for (int is_more = 1; is_more || done < seen;) {
        if (is_more && (is_more = PyDict_Next(args[0], &place, &session, &none))) {
            ahead[seen++ % AHEAD] = session;
            __builtin_prefetch(session, 1);
        }
        if (seen - done > AHEAD / 2) look_at(ahead[(done + AHEAD / 2) % AHEAD]);
        if (is_more && seen - done < AHEAD) continue;
        if (done == seen) break;
        session = ahead[done++ % AHEAD];
        int outcome = queue_one(session, args[1], args[2]);
        if (outcome == -2 || (outcome == -1 && PyList_Append(rest, session))) {
            Py_DECREF(rest);
            return NULL;
        }
    }
    return rest;
}

/* --- hand_over --- */

/* An empty list with some room, or NULL: what waited for one is where the next one's will. */
static PyObject *spare;

/* What waits for a session, a new reference; from now on it is another list in which more does. */
static PyObject *taken(PyObject *session, int type)
{
    PyObject *fresh = spare ? spare : PyList_New(0);
    if (!fresh) return NULL;
    spare = NULL;
    PyObject **place = slot(session, type, N_PENDING), *pending = *place;
    *place = fresh;
    return pending;
}

/* Takes over a list. Up to `KEPT_ROOM` its room is kept: the next block takes about as much. */
#define KEPT_ROOM 64
static void let_go(PyObject *list)
{
    PyListObject *of = (PyListObject *)list;
    if (Py_REFCNT(list) == 1 && of->allocated <= KEPT_ROOM) {
        Py_ssize_t size = Py_SIZE(of);
        Py_SET_SIZE(of, 0);
        while (size--) Py_DECREF(of->ob_item[size]);
        if (!spare) {
            spare = list;
            return;
        }
    }
    Py_DECREF(list);
}

typedef struct {
    const char *text;
    Py_ssize_t size;
} Piece;

typedef struct {
    PyObject *counted; /* borrowed of what is handed over */
    Py_ssize_t messages, bytes;
} Entry;

/* What one batch is composed of; kept from one to the next, since each needs about the same. */
static struct {
    Piece *pieces;
    Entry *entries;
    char (*digits)[64];
    Py_ssize_t room; /* in items */
    Py_ssize_t piece_count, entry_count, size;
    PyObject *kept; /* a list: what pieces lie in, where nobody else keeps it */
    PyObject *before; /* a dict, or NULL: where numbered streams stood */
} work;
static int is_busy;

static int make_room(Py_ssize_t items)
{
    if (items <= work.room) return 0;
    Py_ssize_t room = items + items / 2 + 32;
    void *pieces = PyMem_Realloc(work.pieces, room * 4 * sizeof(Piece));
    if (pieces) work.pieces = pieces;
    void *entries = PyMem_Realloc(work.entries, room * sizeof(Entry));
    if (entries) work.entries = entries;
    void *digits = PyMem_Realloc(work.digits, room * sizeof *work.digits);
    if (digits) work.digits = digits;
    if (!pieces || !entries || !digits) {
        PyErr_NoMemory();
        return -1;
    }
    work.room = room;
    return 0;
}

static inline void add_piece(const char *text, Py_ssize_t size)
{
    work.pieces[work.piece_count++] = (Piece){text, size};
    work.size += size;
}

static inline void add_bytes(PyObject *bytes)
{
    add_piece(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

static inline void add_entry(PyObject *counted, Py_ssize_t messages, Py_ssize_t bytes)
{
    work.entries[work.entry_count++] = (Entry){counted, messages, bytes};
}

static char *decimal(char *end, unsigned long long number)
{
    do *--end = (char)('0' + number % 10);
    while (number /= 10);
    return end;
}

/* Asks for the lines that a light item's text is numbered from. */
static inline void look_into(PyObject *item)
{
    if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 4) return;
    prefetch(PyTuple_GET_ITEM(item, 0), STREAM);
    __builtin_prefetch(PyTuple_GET_ITEM(item, 3), 1);
}

/* Whether nothing but what `add` takes waits. */
static int is_plain(PyObject *pending)
{
    Py_ssize_t size = PyList_GET_SIZE(pending);
    for (Py_ssize_t at = 0; at < size; at++) {
        if (at + AHEAD < size) __builtin_prefetch(PyList_GET_ITEM(pending, at + AHEAD), 1);
        if (at + AHEAD / 2 < size) look_into(PyList_GET_ITEM(pending, at + AHEAD / 2));
        PyObject *item = PyList_GET_ITEM(pending, at);
        if (PyTuple_CheckExact(item)) {
            if (PyTuple_GET_SIZE(item) != 4) return 0;
            PyObject *stream = PyTuple_GET_ITEM(item, 0), *parts = PyTuple_GET_ITEM(item, 1);
            PyObject *era = PyTuple_GET_ITEM(item, 3);
            if (!is(stream, STREAM) || !is(parts, PARTS) || !is(era, ERA)) return 0;
            PyObject *head = get(stream, STREAM, S_HEAD), *rest = get(parts, PARTS, P_REST);
            PyObject *begins = get(parts, PARTS, P_BEGINS);
            if (!head || !rest || !begins || !get(stream, STREAM, S_COUNTED) || !get(parts, PARTS, P_SIZE) ||
                !get(era, ERA, E_SEQ) || !PyBytes_CheckExact(head) || !PyBytes_CheckExact(rest) ||
                !PyDict_CheckExact(begins))
                return 0;
        } else if (!PyObject_TypeCheck(item, types[FRAME])) {
            return 0;
        }
    }
    return 1;
}

/* ,"prevSeq": of a stream whose frames name the one before, and notes where it stood. */
static int note_before(PyObject *stream, PyObject *era, PyObject *seq, unsigned long long *previous)
{
    PyObject *last_era = get(stream, STREAM, S_ERA), *last_seq = get(stream, STREAM, S_SEQ);
    if (!last_era || !last_seq) {
        PyErr_SetString(PyExc_AttributeError, "a stream without its last number");
        return -1;
    }
    *previous = 0;
    if (last_era == era) {
        *previous = PyLong_AsUnsignedLongLong(last_seq);
        if (PyErr_Occurred()) return -1;
    }
    PyObject *known = PyTuple_Pack(2, last_era, last_seq);
    if (!known) return -1;
    if (!work.before) work.before = PyDict_New();
    int is_bad = !work.before || !PyDict_SetDefault(work.before, stream, known);
    Py_DECREF(known);
    if (is_bad) return -1;
    set(stream, STREAM, S_ERA, Py_NewRef(era));
    set(stream, STREAM, S_SEQ, Py_NewRef(seq));
    return 0;
}

/* Takes the next number of `era` and writes it, and that of the topic's frame before where frames of the
 * stream name it, to the end of `digits`. NULL with something raised.
 * Not inlined, so that a profile tells what numbering takes (`make bench`, share). */
static __attribute__((noinline)) char *take_number(PyObject *stream, PyObject *era, char digits[64])
{
    unsigned long long number = PyLong_AsUnsignedLongLong(get(era, ERA, E_SEQ));
    if (PyErr_Occurred()) return NULL;
    PyObject *seq = PyLong_FromUnsignedLongLong(++number);
    if (!seq) return NULL;
    char *text = digits + 64;
    if (get(stream, STREAM, S_NUMBERED) == Py_True) {
        unsigned long long previous;
        if (note_before(stream, era, seq, &previous)) {
            Py_DECREF(seq);
            return NULL;
        }
        static const char name[] = ",\"prevSeq\":";
        text = decimal(text, previous) - (sizeof name - 1);
        memcpy(text, name, sizeof name - 1);
    }
    set(era, ERA, E_SEQ, seq);
    return decimal(text, number);
}

/* A light item: its text, numbered now. */
static int add_light(PyObject *item, char digits[64])
{
    PyObject *stream = PyTuple_GET_ITEM(item, 0), *parts = PyTuple_GET_ITEM(item, 1), *era = PyTuple_GET_ITEM(item, 3);
    Py_ssize_t stem = PyLong_AsSsize_t(get(parts, PARTS, P_SIZE));
    if (stem == -1 && PyErr_Occurred()) return -1;
    char *end = digits + 64, *text = take_number(stream, era, digits);
    if (!text) return -1;
    PyObject *head = get(stream, STREAM, S_HEAD), *rest = get(parts, PARTS, P_REST);
    Py_ssize_t of_number = PyBytes_GET_SIZE(head) + (end - text);
    PyObject *key = PyLong_FromSsize_t(of_number);
    if (!key) return -1;
    PyObject *begin = PyDict_GetItemWithError(get(parts, PARTS, P_BEGINS), key); /* which keeps it */
    if (!begin && !PyErr_Occurred()) {
        PyObject *made = PyObject_CallMethodOneArg(parts, str_begin, key);
        Py_XDECREF(made);
        if (made) begin = PyDict_GetItemWithError(get(parts, PARTS, P_BEGINS), key);
    }
    Py_DECREF(key);
    if (!begin || !PyBytes_CheckExact(begin)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a frame's begin is bytes");
        return -1;
    }
    add_bytes(begin);
    add_bytes(head);
    add_piece(text, end - text);
    add_bytes(rest);
    add_entry(get(stream, STREAM, S_COUNTED), 1, stem + of_number);
    return 0;
}

/* A frame. One of its own kind has its text made when it is asked for. */
static int add_frame(PyObject *frame)
{
    PyObject *wire, *text_bytes;
    if (is(frame, FRAME)) {
        wire = Py_XNewRef(get(frame, FRAME, F_WIRE));
        text_bytes = Py_XNewRef(get(frame, FRAME, F_TEXT_BYTES));
    } else {
        wire = PyObject_GetAttr(frame, str_wire);
        text_bytes = wire ? PyObject_GetAttr(frame, str_text_bytes) : NULL;
    }
    Py_ssize_t bytes = text_bytes ? PyLong_AsSsize_t(text_bytes) : -1;
    Py_XDECREF(text_bytes);
    if (!wire || bytes < 0 || !PyBytes_CheckExact(wire)) {
        Py_XDECREF(wire);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a frame's wire is bytes");
        return -1;
    }
    add_bytes(wire);
    if (!work.kept) work.kept = PyList_New(0);
    int is_bad = !work.kept || PyList_Append(work.kept, wire);
    Py_DECREF(wire);
    if (is_bad) return -1;
    PyObject *counted = get(frame, FRAME, F_COUNTED);
    if (!counted || counted == Py_None) return 0;
    if (!is(counted, COUNTED)) {
        PyErr_SetString(PyExc_TypeError, "a frame counts as something else");
        return -1;
    }
    Py_ssize_t messages = PyLong_AsSsize_t(get(counted, COUNTED, C_MESSAGES));
    if (PyErr_Occurred()) return -1;
    add_entry(counted, messages, bytes);
    return 0;
}

static int add_all(PyObject *pending)
{
    work.piece_count = work.entry_count = work.size = 0;
    Py_CLEAR(work.kept);
    Py_CLEAR(work.before);
    if (make_room(PyList_GET_SIZE(pending))) return -1;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(pending); at++) {
        PyObject *item = PyList_GET_ITEM(pending, at);
        if (PyTuple_CheckExact(item) ? add_light(item, work.digits[at]) : add_frame(item)) return -1;
    }
    return 0;
}

static PyObject *joined(void)
{
    PyObject *wire = PyBytes_FromStringAndSize(NULL, work.size);
    if (!wire) return NULL;
    char *to = PyBytes_AS_STRING(wire);
    for (Py_ssize_t at = 0; at < work.piece_count; at++) {
        memcpy(to, work.pieces[at].text, work.pieces[at].size);
        to += work.pieces[at].size;
    }
    return wire;
}

/* The text of `pending`, a new reference; `shared` keeps it for those of the same frames. */
static PyObject *composed(PyObject *pending, PyObject *shared)
{
    if (add_all(pending)) return NULL;
    if (PyList_GET_SIZE(pending) == 1 && work.kept) return Py_NewRef(PyList_GET_ITEM(work.kept, 0));
    if (!shared) return joined();
    PyObject *key = PyList_AsTuple(pending);
    if (!key) return NULL;
    PyObject *wire = Py_XNewRef(PyDict_GetItemWithError(shared, key));
    if (!wire && !PyErr_Occurred()) {
        wire = joined();
        if (wire && PyDict_SetItem(shared, key, wire)) Py_CLEAR(wire);
    }
    Py_DECREF(key);
    return wire;
}

/* What it adds to the meter, as Python has it. */
static PyObject *tally(void)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t at = 0; list && at < work.entry_count; at++) {
        Entry *entry = &work.entries[at];
        PyObject *row = Py_BuildValue("Onn", entry->counted, entry->messages, entry->bytes);
        if (!row || PyList_Append(list, row)) Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

static int tell_account(PyObject *account)
{
    PyObject *list = tally(), *done = NULL;
    if (list) done = PyObject_CallMethodOneArg(account, str_delivered, list);
    Py_XDECREF(list);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* Adds it to the counters themselves, if they are there and each has its slot. Not inlined, as above. */
static __attribute__((noinline)) int count(PyObject *account)
{
    if (!work.entry_count) return 0;
    if (!is(account, ACCOUNT)) return tell_account(account);
    PyObject *slots = get(account, ACCOUNT, A_SLOTS), *meter = get(account, ACCOUNT, A_METER);
    if (!slots || !meter || !PyDict_Check(slots)) return tell_account(account);
    PyObject *words = PyObject_GetAttr(meter, str_words);
    if (!words) {
        PyErr_Clear();
        return tell_account(account);
    }
    Py_buffer view;
    int is_there = !PyObject_GetBuffer(words, &view, PyBUF_WRITABLE);
    Py_DECREF(words);
    if (!is_there) {
        PyErr_Clear();
        return tell_account(account);
    }
    uint64_t *counters = view.buf;
    Py_ssize_t room = view.len / (Py_ssize_t)sizeof *counters, at, found = 0;
    Py_ssize_t few[64], *places = work.entry_count <= 64 ? few : PyMem_Malloc(work.entry_count * sizeof *places);
    for (at = 0; places && at < work.entry_count; at++, found++) {
        PyObject *place = PyDict_GetItemWithError(slots, work.entries[at].counted);
        places[at] = place ? PyLong_AsSsize_t(place) : -1;
        if (places[at] < 0 || places[at] > room - 2) break;
    }
    int is_all = places && found == work.entry_count;
    for (at = 0; is_all && at < found; at++) {
        counters[places[at]] += (uint64_t)work.entries[at].messages;
        counters[places[at] + 1] += (uint64_t)work.entries[at].bytes;
    }
    if (places != few) PyMem_Free(places);
    PyBuffer_Release(&view);
    PyErr_Clear();
    return is_all ? 0 : tell_account(account);
}

static Py_ssize_t write_all(int fd, PyObject *wire)
{
    Py_ssize_t sent;
    do sent = send(fd, PyBytes_AS_STRING(wire), (size_t)PyBytes_GET_SIZE(wire), MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    return sent;
}

/* What the kernel did not take whole: (session, its items, text, tally, before or None, bytes taken or -1). */
static PyObject *cut(PyObject *session, PyObject *pending, PyObject *wire, Py_ssize_t sent)
{
    PyObject *items = PyList_AsTuple(pending), *list = items ? tally() : NULL;
    if (!list) {
        Py_XDECREF(items);
        return NULL;
    }
    return Py_BuildValue("ONONOn", session, items, wire, list, work.before ? work.before : Py_None, sent);
}

/* Hands over what waits for one. Who is not plain goes to `rest`, and what the kernel did not take
 * whole to `left`. 0, or -1 with something raised. */
static int hand_one(PyObject *session, PyObject *shared, PyObject *rest, PyObject **left)
{
    int type = is(session, SESSION) ? SESSION : is(session, RELAY_SESSION) ? RELAY_SESSION : -1;
    if (type < 0) return PyList_Append(rest, session);
    PyObject *pending = get(session, type, N_PENDING), *writer = get(session, type, N_SINK);
    if (!pending || !PyList_CheckExact(pending) || !is(writer, WRITER)) return PyList_Append(rest, session);
    Py_ssize_t items = PyList_GET_SIZE(pending);
    if (!items) return 0;
    PyObject *number = get(writer, WRITER, W_FD), *account = get(writer, WRITER, W_ACCOUNT);
    long fd = number && PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    if (fd < 0 || !account || get(writer, WRITER, W_CLOSING) != Py_False ||
        get(writer, WRITER, W_BLOCKED) != Py_False || !is_plain(pending)) {
        PyErr_Clear();
        return PyList_Append(rest, session);
    }
    /* Out of everybody's reach before any Python runs, as there: what is composed lies in it. */
    pending = taken(session, type);
    if (!pending) {
        PyErr_Clear();
        return PyList_Append(rest, session);
    }
    PyObject *wire = composed(pending, type == SESSION ? shared : NULL);
    int is_bad = !wire;
    Py_ssize_t sent = wire ? write_all((int)fd, wire) : 0;
    if (wire && sent == PyBytes_GET_SIZE(wire)) {
        PyObject *before = get(writer, WRITER, W_SENT);
        long long so_far = before ? PyLong_AsLongLong(before) : 0;
        PyObject *now = PyLong_FromLongLong(so_far + items);
        if (now) set(writer, WRITER, W_SENT, now);
        is_bad = !now || count(account);
    } else if (wire) {
        *left = cut(session, pending, wire, sent);
        is_bad = !*left;
    }
    Py_XDECREF(wire);
    /* Not before it is counted, since entries lie in it. */
    PyObject *error, *value, *where;
    PyErr_Fetch(&error, &value, &where);
    let_go(pending);
    PyErr_Restore(error, value, where);
    return is_bad ? -1 : 0;
}

static PyObject *hand_over(PyObject *self, PyObject *const *args, Py_ssize_t count_)
{
    (void)self;
    if (count_ != 3 || !PyList_CheckExact(args[0]))
        return PyErr_Format(PyExc_TypeError, "hand_over(dirty, begin, go_on)");
    if (!live) return PyErr_Format(PyExc_RuntimeError, "bind comes first");
    PyObject *dirty = args[0];
    Py_ssize_t begin = PyLong_AsSsize_t(args[1]), size = PyList_GET_SIZE(dirty);
    if (begin == -1 && PyErr_Occurred()) return NULL;
    PyObject *rest = PyList_New(0), *shared = PyDict_New();
    long failures = 0;
    if (!rest || !shared) goto failed;
    for (Py_ssize_t at = 0; at < size && size == PyList_GET_SIZE(dirty); at++) {
        PyObject *session = Py_NewRef(PyList_GET_ITEM(dirty, (begin + at) % size)), *left = NULL;
        if (at + 2 < size) look_at(PyList_GET_ITEM(dirty, (begin + at + 2) % size));
        if (at + 4 < size) __builtin_prefetch(PyList_GET_ITEM(dirty, (begin + at + 4) % size), 1);
        int outcome;
        if (is_busy) {
            outcome = PyList_Append(rest, session);
        } else {
            is_busy = 1;
            outcome = hand_one(session, shared, rest, &left);
            is_busy = 0;
        }
        if (left) {
            /* At once: its text may be 19 MB, and there may be a hundred such. */
            PyObject *done = PyObject_CallObject(args[2], left);
            Py_DECREF(left);
            Py_XDECREF(done);
            outcome = done ? 0 : -1;
        }
        if (outcome) {
            /* One customer's fault must not keep the others' frames. */
            failures++;
            PyErr_WriteUnraisable(NULL);
        }
        Py_DECREF(session);
    }
    if (!is_busy) { /* else it is what somebody further out composes from */
        Py_CLEAR(work.kept);
        Py_CLEAR(work.before);
    }
    Py_DECREF(shared);
    return Py_BuildValue("Nl", rest, failures);
failed:
    Py_XDECREF(rest);
    Py_XDECREF(shared);
    return NULL;
}

static PyMethodDef methods[] = {
    {"bind", bind_shapes, METH_VARARGS, "bind(classes, live): whose objects these are; before anything else."},
    {"deliver", (PyCFunction)(void (*)(void))deliver, METH_FASTCALL,
     "deliver(streams, parts, here, dirty, is_state): (how many were offered it, the streams left to do)."},
    {"queue", (PyCFunction)(void (*)(void))queue, METH_FASTCALL,
     "queue(followers, frame, dirty): the followers left to do."},
    {"hand_over", (PyCFunction)(void (*)(void))hand_over, METH_FASTCALL,
     "hand_over(dirty, begin, go_on): (the sessions left to do, how many failed)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_fanout", .m_doc = "See fanout.c.", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__fanout(void)
{
    str_wire = PyUnicode_InternFromString("wire");
    str_text_bytes = PyUnicode_InternFromString("text_bytes");
    str_begin = PyUnicode_InternFromString("begin");
    str_delivered = PyUnicode_InternFromString("delivered");
    str_words = PyUnicode_InternFromString("words");
    if (!str_wire || !str_text_bytes || !str_begin || !str_delivered || !str_words) return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddStringConstant(made, "SOURCE", SOURCE)) Py_CLEAR(made);
    return made;
}
