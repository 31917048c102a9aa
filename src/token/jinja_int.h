/* jinja_int.h - values, nodes and the run-time context of the template interpreter.
 *
 * Everything a rendering makes lives in one arena; errors leave by longjmp to
 * token_template_render, so that no path needs clean-up code. */
#ifndef SL_TOKEN_JINJA_INT_H
#define SL_TOKEN_JINJA_INT_H

#include <setjmp.h>

#include "base/limits.h"
#include "base/mem.h"
#include "token/token.h"

#define JINJA_ARENA_BYTES_MAX (128 * SL_MIB) /* of one rendering */
#define JINJA_TREE_BYTES_MAX  (256 * SL_MIB) /* a one-byte token makes a node of 150 */
#define JINJA_RANGE_MAX       100000         /* as Jinja's sandbox */
#define JINJA_EVAL_DEPTH_MAX  1000           /* frames of eval: under 1 MiB of stack */

typedef enum jtok_kind {
    T_TEXT,
    T_VBEG,
    T_VEND,
    T_BBEG,
    T_BEND,
    T_NAME,
    T_STR,
    T_INT,
    T_FLOAT,
    T_OP,
    T_EOF
} jtok_kind;

typedef struct jtok {
    jtok_kind kind;
    int line, col;
    const char *s;
    size_t len;
    int64_t i;
    double f;
} jtok;

typedef enum jnode_kind {
    N_TEXT,
    N_PRINT,
    N_SEQ,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_FILTERBLOCK,
    N_BREAK,
    N_CONTINUE,
    N_WITH,
    N_NAME,
    N_CONST,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_UNARY,
    N_BINARY,
    N_AND,
    N_OR,
    N_NOT,
    N_COMPARE,
    N_COND,
    N_KWARG
} jnode_kind;

typedef enum jtype {
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_RANGE,
    J_VIEW,
    J_ITER,
    J_NS,
    J_MACRO,
    J_METHOD,
    J_GLOBAL,
    J_LOOP,
    J_CYCLER,
    J_JOINER
} jtype;

typedef struct jval jval;
typedef struct jnode jnode;
typedef struct jscope jscope;
typedef struct jlist {
    jval *items;
    size_t count, cap;
} jlist;
typedef struct jpair jpair;
typedef struct jdict {
    jpair *items;
    size_t count, cap;
    uint32_t *map;
    size_t map_size;
} jdict;
typedef struct jmacro {
    const jnode *node;
    jscope *scope;
} jmacro;
typedef struct jmethod jmethod;
typedef struct jloop jloop;
typedef struct jrange {
    int64_t start, step, count;
} jrange;
/* A generator (consumed once), a dict view (kind "dict_keys") or a cycler; made from a list. */
typedef struct jiter {
    jlist *list;
    size_t at;
    const char *kind;
    bool started;
} jiter;

struct jval {
    jtype type;
    bool safe; /* STR: Markup; TUPLE: a group of groupby */
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *s;
            size_t len;
        }; /* STR; UNDEF, GLOBAL: name */
        jlist *list;
        jdict *dict;
        jmacro *macro;
        jmethod *method;
        jloop *loop;
        jrange *range;
        jiter *iter;
    };
};
struct jpair {
    jval key, value;
};
struct jmethod {
    jval self;
    const char *name;
    size_t len;
};
struct jloop {
    jval items;
    size_t at, count, depth;
    jval changed;
    bool has_changed;
    const jnode *node;
    jscope *scope;
};

struct jnode {
    jnode_kind kind;
    int line, col;
    jval value; /* CONST, TEXT; NAME, ATTR, FILTER, TEST, KWARG: the name */
    int op;
    jnode **kids;
    size_t count, cap;
    jnode *a, *b, *c, *d;
};

typedef struct jvar {
    const char *name;
    size_t len;
    jval value;
} jvar;
struct jscope {
    jscope *up;
    jvar *vars;
    size_t count, cap;
    bool kept; /* a macro looks into it */
};
typedef struct jtext {
    char *p;
    size_t len, cap;
} jtext;

typedef struct jargs {
    jval *pos;
    size_t count;
    jpair *kw;
    size_t kw_count;
} jargs;

typedef struct jctx {
    sl_arena arena;
    jmp_buf out_of;
    sl_status status;
    sl_err *err;
    int line;
    int64_t steps, steps_max, now_s;
    int depth, eval_depth;
    jtext *out;
    jscope *scope, *root;
    char *tail, *tail_end; /* free room behind the string made last */
} jctx;

struct token_template {
    sl_arena arena;
    jnode *body;
    int64_t steps_max; /* 0: SL_TEMPLATE_STEPS_MAX */
};

/* Ops of N_BINARY and N_COMPARE. */
enum {
    O_ADD,
    O_SUB,
    O_MUL,
    O_DIV,
    O_FDIV,
    O_MOD,
    O_POW,
    O_CAT,
    O_EQ,
    O_NE,
    O_LT,
    O_LE,
    O_GT,
    O_GE,
    O_IN,
    O_NOTIN,
    O_NEG,
    O_POS
};

/* What the body of a macro mentions; in op of its node. */
enum { JM_VARARGS = 1, JM_KWARGS = 2, JM_CALLER = 4 };

SL_NORETURN void j_fail(jctx *c, sl_status st, const char *fmt, ...) SL_PRINTF(3, 4);
void *j_alloc(jctx *c, size_t bytes);
void j_step(jctx *c);
void j_work(jctx *c, size_t bytes); /* steps for work on that many bytes */
void jt_put(jctx *c, jtext *t, const char *s, size_t len);
void jt_puts(jctx *c, jtext *t, const char *s);
void jt_fill(jctx *c, jtext *t, const char *s, size_t len, int64_t times);
jval jt_val(jtext *t);

/* jinja_value.c */
jval j_str(const char *s, size_t len);
jval j_strz(const char *s);
jval j_int(int64_t i);
jval j_bool(bool b);
jval j_float(double f);
jval j_none(void);
jval j_undef(const char *name, size_t len);
jval j_list(jctx *c, jtype type);
jval j_iter(jctx *c, jval list, const char *kind); /* NULL: a generator */
jval j_pair(jctx *c, jval a, jval b);
void j_push(jctx *c, jval list, jval item);
jval j_dict(jctx *c);
void j_put(jctx *c, jdict *d, jval key, jval value);
jval *j_get(const jdict *d, jval key);
bool j_hashable(jval v);
jval j_from_json(jctx *c, const json_t *j);
bool j_true(jval v);
bool j_is(jval v, const char *text);
bool j_one_of(jval name, const char *names); /* " a b c " */
bool j_is_num(jval v);
bool j_is_int(jval v); /* bool too */
int64_t j_intval(jval v);
double j_num(jval v);
bool j_eq(jctx *c, jval a, jval b);
int j_cmp(jctx *c, jval a, jval b, const char *op);
const char *j_type_name(jval v);
bool j_iterable(jval v);
jval j_items(jctx *c, jval v); /* anything iterable as a list or tuple; consumes generators */
jval j_nth(jval v, size_t at); /* of what j_seq gave */
jval j_seq(jctx *c, jval v, size_t *ret_count); /* as j_items, but leaves ranges as they are */
int64_t j_len(jctx *c, jval v);
jval j_chars(jctx *c, jval s);
bool j_in(jctx *c, jval item, jval box);

/* jinja_print.c */
void j_print(jctx *c, jtext *t, jval v); /* str() */
void j_repr(jctx *c, jtext *t, jval v);
jval j_tostr(jctx *c, jval v);
void j_put_float(jctx *c, jtext *t, double f);
jval j_tojson(jctx *c, jval v, const jargs *a);

/* jinja_op.c */
jval j_binary(jctx *c, int op, jval a, jval b);
jval j_negate(jctx *c, int op, jval a);
bool j_compare(jctx *c, int op, jval a, jval b);
jval j_attr(jctx *c, jval v, jval name);
jval j_item(jctx *c, jval v, jval key);
jval j_path(jctx *c, jval v, jval path, jval fallback); /* "a.b.0" as filters take it */
jval j_slice(jctx *c, jval v, jval from, jval to, jval step);

/* jinja_text.c: Unicode */
size_t jx_next(const char *s, size_t len, uint32_t *ret_cp); /* never 0 */
size_t jx_count(jval s);
size_t jx_offset(jval s, int64_t chars); /* of that character; the end when past it */
bool jx_space(uint32_t cp);
bool jx_is(jval s, const char *method); /* isdigit, isupper, ... */
jval jx_case(jctx *c, jval s, const char *how);
jval jx_strip(jctx *c, jval s, jval chars, int sides);
jval jx_lines(jctx *c, jval s, bool keep);
jval jx_escape(jctx *c, jval s);

/* jinja_format.c */
jval j_percent(jctx *c, jval format, jval args, const jdict *named);
jval j_format(jctx *c, jval format, const jargs *a);

jval j_arg(const jargs *a, size_t at, const char *name, jval fallback);
int64_t j_want_int(jctx *c, jval v, const char *what);
jval j_call(jctx *c, jval fn, const jargs *a);
jval j_filter(jctx *c, jval name, jval v, const jargs *a);
bool j_filter_known(jval name);
jval j_filter_seq(jctx *c, jval name, jval v, const jargs *a);
jval j_filter_fold(jctx *c, jval name, jval v, const jargs *a);
bool j_test(jctx *c, jval name, jval v, const jargs *a);
bool j_test_known(jval name);
jval j_method(jctx *c, jval self, jval name, const jargs *a);
jval j_str_method(jctx *c, jval self, jval name, const jargs *a);
bool j_has_method(jval self, jval name);
jval j_global(jctx *c, jval name, const jargs *a);
bool j_is_global(jval name);
void j_sort(jctx *c, jval *items, jval *keys, size_t count, bool reverse);
sl_status jinja_lex(sl_arena *a, const char *text, size_t len, jtok **ret, size_t *ret_count,
                    sl_err *err);

#endif
