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
#define JINJA_EVAL_DEPTH_MAX  1000           /* frames of eval: under 1 MiB of stack */

typedef enum jtok_kind { T_TEXT, T_VBEG, T_VEND, T_BBEG, T_BEND, T_NAME, T_STR, T_INT, T_FLOAT, T_OP, T_EOF } jtok_kind;

typedef struct jtok {
    jtok_kind kind;
    int line, col;
    const char *s;
    size_t len;
    int64_t i;
    double f;
} jtok;

typedef enum jnode_kind {
    N_TEXT, N_PRINT, N_SEQ, N_IF, N_FOR, N_SET, N_SETBLOCK, N_MACRO, N_CALLBLOCK, N_FILTERBLOCK,
    N_BREAK, N_CONTINUE, N_WITH, N_NAME, N_CONST, N_LIST, N_TUPLE, N_DICT, N_ATTR, N_ITEM, N_SLICE,
    N_CALL, N_FILTER, N_TEST, N_UNARY, N_BINARY, N_AND, N_OR, N_NOT, N_COMPARE, N_COND, N_KWARG
} jnode_kind;

typedef enum jtype { J_UNDEF, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STR, J_LIST, J_TUPLE, J_DICT, J_NS, J_MACRO, J_METHOD, J_GLOBAL, J_LOOP } jtype;

typedef struct jval jval;
typedef struct jnode jnode;
typedef struct jscope jscope;
typedef struct jlist { jval *items; size_t count, cap; } jlist;
typedef struct jpair jpair;
typedef struct jdict { jpair *items; size_t count, cap; uint32_t *map; size_t map_size; } jdict;
typedef struct jmacro { const jnode *node; jscope *scope; } jmacro;
typedef struct jmethod jmethod;
typedef struct jloop jloop;

struct jval {
    jtype type;
    union {
        bool b;
        int64_t i;
        double f;
        struct { const char *s; size_t len; }; /* STR; UNDEF, GLOBAL: name */
        jlist *list;
        jdict *dict;
        jmacro *macro;
        jmethod *method;
        jloop *loop;
    };
    bool safe;
};
struct jpair { jval key, value; };
struct jmethod { jval self; const char *name; size_t len; };
struct jloop { jval items; size_t at, depth; jval changed; bool has_changed; };

struct jnode {
    jnode_kind kind;
    int line, col;
    jval value;          /* CONST, TEXT; NAME, ATTR, FILTER, TEST, KWARG: the name */
    int op;
    jnode **kids;
    size_t count, cap;
    jnode *a, *b, *c, *d;
};

typedef struct jvar { const char *name; size_t len; jval value; } jvar;
struct jscope { jscope *up; jvar *vars; size_t count, cap; };
typedef struct jtext { char *p; size_t len, cap; } jtext;

typedef struct jargs { jval *pos; size_t count; jpair *kw; size_t kw_count; } jargs;

typedef struct jctx {
    sl_arena arena;
    jmp_buf out_of;
    sl_status status;
    sl_err *err;
    int line;
    int64_t steps, now_s;
    int depth, eval_depth;
    jtext *out;
    jscope *scope, *root;
} jctx;

struct token_template {
    sl_arena arena;
    jnode *body;
};

/* Ops of N_BINARY and N_COMPARE. */
enum { O_ADD, O_SUB, O_MUL, O_DIV, O_FDIV, O_MOD, O_POW, O_CAT, O_EQ, O_NE, O_LT, O_LE, O_GT, O_GE, O_IN, O_NOTIN, O_NEG, O_POS };

SL_NORETURN void j_fail(jctx *c, sl_status st, const char *fmt, ...) SL_PRINTF(3, 4);
void *j_alloc(jctx *c, size_t bytes);
void j_step(jctx *c);
void jt_put(jctx *c, jtext *t, const char *s, size_t len);
void jt_puts(jctx *c, jtext *t, const char *s);
jval jt_val(jctx *c, jtext *t);
jval j_str(const char *s, size_t len);
jval j_strz(const char *s);
jval j_int(int64_t i);
jval j_bool(bool b);
jval j_float(double f);
jval j_none(void);
jval j_undef(const char *name, size_t len);
jval j_list(jctx *c, jtype type);
void j_push(jctx *c, jval list, jval item);
jval j_dict(jctx *c);
void j_put(jctx *c, jdict *d, jval key, jval value);
jval *j_get(const jdict *d, jval key);
jval j_from_json(jctx *c, const json_t *j);
bool j_true(jval v);
bool j_is(jval v, const char *text);
bool j_eq(jctx *c, jval a, jval b);
int j_cmp(jctx *c, jval a, jval b, const char *op);
void j_print(jctx *c, jtext *t, jval v); /* str() */
void j_repr(jctx *c, jtext *t, jval v);
jval j_tostr(jctx *c, jval v);
void j_json(jctx *c, jtext *t, jval v, jval indent, jval item_sep, jval key_sep, bool sort, bool ascii, int level);
const char *j_type_name(jval v);
jval j_items(jctx *c, jval v); /* anything iterable as a list */
int64_t j_len(jctx *c, jval v);
jval j_chars(jctx *c, jval s);
jval j_binary(jctx *c, int op, jval a, jval b);
bool j_in(jctx *c, jval item, jval box);
jval j_arg(const jargs *a, size_t at, const char *name, jval fallback);
jval j_attr(jctx *c, jval v, jval name);
jval j_item(jctx *c, jval v, jval key);
jval j_call(jctx *c, jval fn, const jargs *a);
jval j_filter(jctx *c, jval name, jval v, const jargs *a);
bool j_test(jctx *c, jval name, jval v, const jargs *a);
jval j_method(jctx *c, jval self, jval name, const jargs *a);
bool j_has_method(jval self, jval name);
jval j_global(jctx *c, jval name, const jargs *a);
bool j_is_global(jval name);
void j_sort(jctx *c, jval list, jval attr, bool reverse, bool fold);
sl_status jinja_lex(sl_arena *a, const char *text, size_t len, jtok **ret, size_t *ret_count, sl_err *err);

#endif
