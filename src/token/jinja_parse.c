/* jinja_parse.c - tokens to a tree. Errors leave by longjmp to token_template_parse. */
#include <stdarg.h>
#include <stdio.h>

#include "token/jinja_int.h"

typedef struct parser {
    sl_arena *a;
    jtok *t;
    sl_err *err;
    sl_status status;
    jmp_buf out_of;
    bool soft;       /* inside an if: an unknown filter fails only when it is reached */
    int depth, uses; /* uses: JM_* seen so far */
} parser;

static jnode *expr(parser *p);
static jnode *body(parser *p, const char *const *ends);

SL_NORETURN static void fail(parser *p, const char *what)
{
    p->status =
        sl_fail(p->err, SL_EINVAL, "template line %d column %d: %s", p->t->line, p->t->col, what);
    longjmp(p->out_of, 1);
}

static void *alloc(parser *p, size_t n)
{
    void *m = sl_arena_alloc(p->a, n);

    if (!m) {
        bool full = p->a->used_bytes > p->a->max_bytes - n - 16;
        p->status = sl_fail(p->err, full ? SL_ELIMIT : SL_ENOMEM, "no memory for the template");
        longjmp(p->out_of, 1);
    }
    return m;
}

static jnode *node(parser *p, jnode_kind kind)
{
    jnode *n = alloc(p, sizeof *n);

    n->kind = kind;
    n->line = p->t->line;
    n->col = p->t->col;
    return n;
}

static void kid(parser *p, jnode *n, jnode *k)
{
    if (n->count == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 4;
        jnode **m = alloc(p, cap * sizeof *m);
        if (n->count)
            memcpy(m, n->kids, n->count * sizeof *m);
        n->kids = m;
        n->cap = cap;
    }
    n->kids[n->count++] = k;
}

static bool is_op(const jtok *t, const char *op)
{
    return t->kind == T_OP && t->len == strlen(op) && !memcmp(t->s, op, t->len);
}

static bool is_name(const jtok *t, const char *name)
{
    return t->kind == T_NAME && t->len == strlen(name) && !memcmp(t->s, name, t->len);
}

static bool take_op(parser *p, const char *op)
{
    if (!is_op(p->t, op))
        return false;
    p->t++;
    return true;
}

static bool take_name(parser *p, const char *name)
{
    if (!is_name(p->t, name))
        return false;
    p->t++;
    return true;
}

static void want_op(parser *p, const char *op)
{
    char text[64];

    if (take_op(p, op))
        return;
    snprintf(text, sizeof text, "expected '%s'", op);
    fail(p, text);
}

static jval want_name(parser *p)
{
    if (p->t->kind != T_NAME)
        fail(p, "expected a name");
    p->t++;
    return j_str(p->t[-1].s, p->t[-1].len);
}

static void deeper(parser *p)
{
    if (++p->depth > SL_TEMPLATE_DEPTH_MAX) {
        p->status = sl_fail(p->err, SL_ELIMIT, "template line %d: nested too deep", p->t->line);
        longjmp(p->out_of, 1);
    }
}

static jnode *tuple(parser *p, bool with_cond);

static void call_args(parser *p, jnode *n)
{
    bool first = true;

    while (!take_op(p, ")")) {
        if (!first)
            want_op(p, ",");
        if (!first && take_op(p, ")"))
            return;
        first = false;
        if (p->t->kind == T_NAME && is_op(p->t + 1, "=")) {
            jnode *k = node(p, N_KWARG);
            k->value = want_name(p);
            p->t++;
            k->a = expr(p);
            kid(p, n, k);
        } else {
            kid(p, n, expr(p));
        }
    }
}

static jnode *dict_literal(parser *p)
{
    jnode *n = node(p, N_DICT);

    while (!take_op(p, "}")) {
        if (n->count)
            want_op(p, ",");
        if (n->count && take_op(p, "}"))
            break;
        kid(p, n, expr(p));
        want_op(p, ":");
        kid(p, n, expr(p));
    }
    return n;
}

static jnode *constant(parser *p, jval v)
{
    jnode *n = node(p, N_CONST);

    n->value = v;
    return n;
}

static jnode *name_or_constant(parser *p)
{
    jnode *n = node(p, N_NAME);

    n->value = want_name(p);
    if (j_is(n->value, "varargs"))
        p->uses |= JM_VARARGS;
    if (j_is(n->value, "kwargs"))
        p->uses |= JM_KWARGS;
    if (j_is(n->value, "caller"))
        p->uses |= JM_CALLER;
    if (j_is(n->value, "true") || j_is(n->value, "True"))
        return constant(p, j_bool(true));
    if (j_is(n->value, "false") || j_is(n->value, "False"))
        return constant(p, j_bool(false));
    if (j_is(n->value, "none") || j_is(n->value, "None"))
        return constant(p, j_none());
    return n;
}

static jnode *string_literal(parser *p)
{
    jnode *n = node(p, N_CONST);

    n->value = j_str(p->t->s, p->t->len);
    for (p->t++; p->t->kind == T_STR; p->t++) {
        char *s = alloc(p, n->value.len + p->t->len + 1);
        memcpy(s, n->value.s, n->value.len);
        memcpy(s + n->value.len, p->t->s, p->t->len);
        n->value = j_str(s, n->value.len + p->t->len);
    }
    return n;
}

static jnode *primary(parser *p)
{
    jnode *n;

    switch (p->t->kind) {
    case T_STR:
        return string_literal(p);
    case T_INT:
        n = constant(p, j_int(p->t->i));
        p->t++;
        return n;
    case T_FLOAT:
        n = constant(p, j_float(p->t->f));
        p->t++;
        return n;
    case T_NAME:
        return name_or_constant(p);
    default:
        break;
    }
    if (take_op(p, "(")) {
        if (take_op(p, ")"))
            return node(p, N_TUPLE);
        n = tuple(p, true);
        want_op(p, ")");
        return n;
    }
    if (take_op(p, "[")) {
        n = node(p, N_LIST);
        while (!take_op(p, "]")) {
            if (n->count)
                want_op(p, ",");
            if (n->count && take_op(p, "]"))
                break;
            kid(p, n, expr(p));
        }
        return n;
    }
    if (take_op(p, "{"))
        return dict_literal(p);
    fail(p, "expected an expression");
}

static jnode *subscript(parser *p, jnode *of)
{
    jnode *n = node(p, N_ITEM), *s = NULL;

    n->a = of;
    if (!is_op(p->t, ":"))
        n->b = expr(p);
    if (take_op(p, ":")) {
        s = n;
        s->kind = N_SLICE;
        if (!is_op(p->t, ":") && !is_op(p->t, "]"))
            s->c = expr(p);
        if (take_op(p, ":") && !is_op(p->t, "]"))
            s->d = expr(p);
    }
    want_op(p, "]");
    return n;
}

static jnode *postfix(parser *p, jnode *n)
{
    for (;;) {
        jnode *k;

        if (take_op(p, ".")) {
            if (p->t->kind == T_INT) {
                k = node(p, N_ITEM);
                k->b = constant(p, j_int(p->t->i));
                p->t++;
            } else {
                k = node(p, N_ATTR);
                k->value = want_name(p);
            }
            k->a = n;
        } else if (take_op(p, "[")) {
            k = subscript(p, n);
        } else if (take_op(p, "(")) {
            k = node(p, N_CALL);
            k->a = n;
            call_args(p, k);
        } else {
            return n;
        }
        n = k;
    }
}

static jnode *filter(parser *p, jnode *of)
{
    jnode *n = node(p, N_FILTER);

    n->value = want_name(p);
    if (!p->soft && !j_filter_known(n->value))
        fail(p, "No filter of that name");
    n->a = of;
    if (take_op(p, "("))
        call_args(p, n);
    return n;
}

static jnode *test(parser *p, jnode *of)
{
    bool negated = take_name(p, "not");
    jnode *n = node(p, N_TEST);

    n->value = want_name(p);
    n->a = of;
    if (take_op(p, "(")) {
        call_args(p, n);
    } else if ((p->t->kind == T_NAME && !is_name(p->t, "else") && !is_name(p->t, "or") &&
                !is_name(p->t, "and")) ||
               p->t->kind == T_STR || p->t->kind == T_INT || p->t->kind == T_FLOAT ||
               is_op(p->t, "(") || is_op(p->t, "[") || is_op(p->t, "{")) {
        if (is_name(p->t, "is"))
            fail(p, "You cannot chain multiple tests with is");
        kid(p, n, postfix(p, primary(p)));
    }
    if (!p->soft && !j_test_known(n->value))
        fail(p, "No test of that name");
    if (negated) {
        jnode *m = node(p, N_NOT);
        m->a = n;
        return m;
    }
    return n;
}

static jnode *filters(parser *p, jnode *n)
{
    for (;;) {
        if (take_op(p, "|"))
            n = filter(p, n);
        else if (take_name(p, "is"))
            n = test(p, n);
        else if (is_op(p->t, "("))
            n = postfix(p, n);
        else
            return n;
    }
}

static jnode *binary(parser *p, jnode_kind kind, int op, jnode *a, jnode *b)
{
    jnode *n = node(p, kind);

    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static jnode *bare_unary(parser *p)
{
    bool minus = is_op(p->t, "-");
    jnode *n;

    if (!minus && !is_op(p->t, "+"))
        return postfix(p, primary(p));
    p->t++;
    deeper(p);
    n = binary(p, N_UNARY, minus ? O_NEG : O_POS, bare_unary(p), NULL);
    p->depth--;
    return postfix(p, n);
}

static jnode *unary(parser *p)
{
    jnode *n;

    deeper(p);
    n = filters(p, bare_unary(p));
    p->depth--;
    return n;
}

static jnode *power(parser *p)
{
    jnode *n = unary(p);

    while (take_op(p, "**"))
        n = binary(p, N_BINARY, O_POW, n, unary(p));
    return n;
}

static jnode *product(parser *p)
{
    static const char *const names[] = { "*", "/", "//", "%" };
    static const int ops[] = { O_MUL, O_DIV, O_FDIV, O_MOD };
    jnode *n = power(p);

    for (size_t i = 0; i < 4;) {
        if (take_op(p, names[i])) {
            n = binary(p, N_BINARY, ops[i], n, power(p));
            i = 0;
        } else {
            i++;
        }
    }
    return n;
}

static jnode *concat(parser *p)
{
    jnode *n = product(p);

    while (take_op(p, "~"))
        n = binary(p, N_BINARY, O_CAT, n, product(p));
    return n;
}

static jnode *sum(parser *p)
{
    jnode *n = concat(p);

    for (;;) {
        if (take_op(p, "+"))
            n = binary(p, N_BINARY, O_ADD, n, concat(p));
        else if (take_op(p, "-"))
            n = binary(p, N_BINARY, O_SUB, n, concat(p));
        else
            return n;
    }
}

static int compare_op(parser *p)
{
    static const char *const names[] = { "==", "!=", "<", "<=", ">", ">=" };

    for (int i = 0; i < 6; i++)
        if (take_op(p, names[i]))
            return O_EQ + i;
    if (take_name(p, "in"))
        return O_IN;
    if (is_name(p->t, "not") && is_name(p->t + 1, "in")) {
        p->t += 2;
        return O_NOTIN;
    }
    return -1;
}

static jnode *compare(parser *p)
{
    jnode *n = sum(p), *chain = NULL;
    int op;

    while ((op = compare_op(p)) >= 0) {
        if (!chain) {
            chain = node(p, N_COMPARE);
            chain->a = n;
        }
        kid(p, chain, binary(p, N_BINARY, op, NULL, sum(p)));
    }
    return chain ? chain : n;
}

static jnode *negation(parser *p)
{
    jnode *n;

    if (!take_name(p, "not"))
        return compare(p);
    deeper(p);
    n = binary(p, N_NOT, 0, negation(p), NULL);
    p->depth--;
    return n;
}

static jnode *conjunction(parser *p)
{
    jnode *n = negation(p);

    while (take_name(p, "and"))
        n = binary(p, N_AND, 0, n, negation(p));
    return n;
}

static jnode *disjunction(parser *p)
{
    jnode *n = conjunction(p);

    while (take_name(p, "or"))
        n = binary(p, N_OR, 0, n, conjunction(p));
    return n;
}

static jnode *expr(parser *p)
{
    jnode *n;

    deeper(p);
    n = disjunction(p);
    while (take_name(p, "if")) {
        jnode *k = binary(p, N_COND, 0, n, disjunction(p));
        if (take_name(p, "else"))
            k->c = expr(p);
        n = k;
    }
    p->depth--;
    return n;
}

static jnode *tuple(parser *p, bool with_cond)
{
    jnode *first = with_cond ? expr(p) : disjunction(p), *n;

    if (!is_op(p->t, ","))
        return first;
    n = node(p, N_TUPLE);
    kid(p, n, first);
    while (take_op(p, ",")) {
        if (p->t->kind == T_VEND || p->t->kind == T_BEND || is_op(p->t, ")") ||
            is_name(p->t, "in") || is_op(p->t, "="))
            break;
        kid(p, n, with_cond ? expr(p) : disjunction(p));
    }
    return n;
}

static void end_tag(parser *p)
{
    if (p->t->kind != T_BEND)
        fail(p, "expected the end of the tag");
    p->t++;
}

/* The names on the left of "in" and "=". */
static jnode *target(parser *p, bool parens)
{
    jnode *n = node(p, N_TUPLE);

    deeper(p);
    do {
        if (n->count && p->t->kind != T_NAME && !is_op(p->t, "("))
            break;
        if (take_op(p, "(")) {
            kid(p, n, target(p, true));
            want_op(p, ")");
            continue;
        }
        jnode *k = node(p, N_NAME);
        k->value = want_name(p);
        if (j_one_of(k->value, " true false none True False None "))
            fail(p, "can't assign to a constant");
        if (take_op(p, ".")) {
            jnode *m = node(p, N_ATTR);
            m->a = k;
            m->value = want_name(p);
            k = m;
        }
        kid(p, n, k);
    } while (take_op(p, ","));
    p->depth--;
    return n->count == 1 && !is_op(p->t - 1, ",") ? n->kids[0] : n;
}

static jnode *parse_if(parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    jnode *n = node(p, N_IF);

    bool soft = p->soft;

    p->soft = true;
    n->a = tuple(p, true);
    end_tag(p);
    n->b = body(p, ends);
    /* A chain of elif is a list of conditions and bodies, so that its length costs no stack. */
    kid(p, n, n->a);
    kid(p, n, n->b);
    while (take_name(p, "elif")) {
        kid(p, n, tuple(p, true));
        end_tag(p);
        kid(p, n, body(p, ends));
    }
    if (take_name(p, "else")) {
        end_tag(p);
        n->c = body(p, ends + 2);
    }
    p->soft = soft;
    p->t++;
    end_tag(p);
    return n;
}

static jnode *parse_for(parser *p)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    jnode *n = node(p, N_FOR), *else_body = NULL;
    bool soft = p->soft;

    kid(p, n, target(p, false));
    if (n->kids[0]->kind == N_NAME && j_is(n->kids[0]->value, "loop"))
        fail(p, "can't assign to special loop variable in for-loop target");
    if (!take_name(p, "in"))
        fail(p, "expected 'in'");
    n->a = tuple(p, false);
    if (take_name(p, "if"))
        n->d = expr(p);
    if (take_name(p, "recursive"))
        n->op = 1;
    end_tag(p);
    p->soft = false;
    n->b = body(p, ends);
    if (take_name(p, "else")) {
        end_tag(p);
        else_body = body(p, ends + 1);
    }
    p->soft = soft;
    n->c = else_body;
    p->t++;
    end_tag(p);
    return n;
}

static jnode *block(parser *p, const char *end)
{
    const char *ends[] = { end, NULL };
    jnode *n;

    end_tag(p);
    n = body(p, ends);
    p->t++;
    if (p->t->kind == T_NAME)
        p->t++;
    end_tag(p);
    return n;
}

static jnode *parse_set(parser *p)
{
    jnode *n = node(p, N_SET);

    n->a = target(p, false);
    if (take_op(p, "=")) {
        n->b = tuple(p, true);
        end_tag(p);
        return n;
    }
    n->kind = N_SETBLOCK;
    while (take_op(p, "|"))
        n->c = filter(p, n->c);
    n->b = block(p, "endset");
    return n;
}

static void parse_params(parser *p, jnode *n)
{
    want_op(p, "(");
    while (!take_op(p, ")")) {
        if (n->count)
            want_op(p, ",");
        if (n->count && take_op(p, ")"))
            break;
        jnode *k = node(p, N_KWARG);
        k->value = want_name(p);
        if (take_op(p, "="))
            k->a = expr(p);
        kid(p, n, k);
    }
}

static jnode *parse_with(parser *p)
{
    jnode *n = node(p, N_WITH);

    while (p->t->kind != T_BEND) {
        if (n->count)
            want_op(p, ",");
        jnode *k = node(p, N_SET);
        k->a = target(p, true);
        want_op(p, "=");
        k->b = expr(p);
        kid(p, n, k);
    }
    n->b = block(p, "endwith");
    return n;
}

static jnode *statement(parser *p)
{
    jnode *n;

    if (take_name(p, "if"))
        return parse_if(p);
    if (take_name(p, "for"))
        return parse_for(p);
    if (take_name(p, "set"))
        return parse_set(p);
    if (take_name(p, "with"))
        return parse_with(p);
    if (take_name(p, "generation"))
        return block(p, "endgeneration");
    if (take_name(p, "macro")) {
        int uses = p->uses;
        n = node(p, N_MACRO);
        n->value = want_name(p);
        parse_params(p, n);
        p->uses = 0;
        n->b = block(p, "endmacro");
        n->op = p->uses;
        p->uses |= uses;
        return n;
    }
    if (take_name(p, "call")) {
        n = node(p, N_CALLBLOCK);
        n->value = j_strz("caller");
        if (is_op(p->t, "("))
            parse_params(p, n);
        n->a = expr(p);
        if (n->a->kind != N_CALL)
            fail(p, "expected call");
        int uses = p->uses;
        p->uses = 0;
        n->b = block(p, "endcall");
        n->op = p->uses;
        p->uses |= uses;
        return n;
    }
    if (take_name(p, "filter")) {
        n = node(p, N_FILTERBLOCK);
        n->c = filter(p, NULL);
        while (take_op(p, "|"))
            n->c = filter(p, n->c);
        n->b = block(p, "endfilter");
        return n;
    }
    if (take_name(p, "print")) {
        n = node(p, N_PRINT);
        n->a = tuple(p, true);
        end_tag(p);
        return n;
    }
    if (is_name(p->t, "break") || is_name(p->t, "continue")) {
        n = node(p, is_name(p->t, "break") ? N_BREAK : N_CONTINUE);
        p->t++;
        end_tag(p);
        return n;
    }
    fail(p, "unknown tag");
}

static jnode *body(parser *p, const char *const *ends)
{
    jnode *seq = node(p, N_SEQ);

    deeper(p);
    for (;;) {
        if (p->t->kind == T_TEXT) {
            jnode *n = node(p, N_TEXT);
            n->value = j_str(p->t->s, p->t->len);
            p->t++;
            kid(p, seq, n);
        } else if (p->t->kind == T_VBEG) {
            jnode *n = node(p, N_PRINT);
            p->t++;
            n->a = tuple(p, true);
            if (p->t->kind != T_VEND)
                fail(p, "expected '}}'");
            p->t++;
            kid(p, seq, n);
        } else if (p->t->kind == T_BBEG) {
            p->t++;
            for (const char *const *e = ends; e && *e; e++) {
                if (is_name(p->t, *e)) {
                    p->depth--;
                    return seq;
                }
            }
            kid(p, seq, statement(p));
        } else {
            if (p->t->kind != T_EOF || ends)
                fail(p, "unexpected end of template");
            p->depth--;
            return seq;
        }
    }
}

sl_status token_template_parse(const char *text, size_t len, token_template **ret, sl_err *err)
{
    token_template *t;
    parser p = { .err = err };
    size_t count;

    if (len > SL_TEMPLATE_BYTES_MAX)
        return sl_fail(err, SL_ELIMIT, "template of %zu bytes", len);
    t = sl_calloc(1, sizeof *t);
    if (!t)
        return sl_fail(err, SL_ENOMEM, "template");
    sl_arena_init(&t->arena, JINJA_TREE_BYTES_MAX);
    p.a = &t->arena;
    p.status = jinja_lex(&t->arena, text, len, &p.t, &count, err);
    if (p.status != SL_OK || setjmp(p.out_of) != 0) {
        sl_status st = p.status;
        token_template_destroy(t);
        return st;
    }
    t->body = body(&p, NULL);
    *ret = t;
    return SL_OK;
}
