/* jinja_eval.c - walks the tree of a template. */
#include "token/jinja_int.h"

enum { GO_ON, GO_BREAK, GO_CONTINUE };
static jval eval(jctx *c, const jnode *n);
static int run(jctx *c, const jnode *n);

static jval *lookup(jscope *s, jval name)
{
    for (; s; s = s->up)
        for (size_t i = 0; i < s->count; i++)
            if (s->vars[i].len == name.len && !memcmp(s->vars[i].name, name.s, name.len))
                return &s->vars[i].value;
    return NULL;
}

static void define(jctx *c, jscope *s, jval name, jval v)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->vars[i].len == name.len && !memcmp(s->vars[i].name, name.s, name.len)) {
            s->vars[i].value = v;
            return;
        }
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 4;
        jvar *p = j_alloc(c, cap * sizeof *p);
        if (s->count)
            memcpy(p, s->vars, s->count * sizeof *p);
        s->vars = p;
        s->cap = cap;
    }
    s->vars[s->count++] = (jvar){ name.s, name.len, v };
}

static jscope *scope_new(jctx *c, jscope *up)
{
    jscope *s = j_alloc(c, sizeof *s);

    s->up = up;
    return s;
}

static void assign(jctx *c, const jnode *t, jval v)
{
    if (t->kind == N_NAME) {
        define(c, c->scope, t->value, v);
    } else if (t->kind == N_ATTR) {
        jval ns = eval(c, t->a);
        if (ns.type != J_NS)
            j_fail(c, SL_EINVAL, "cannot assign attribute on non-namespace object");
        j_put(c, ns.dict, t->value, v);
    } else {
        v = j_items(c, v);
        if (v.list->count != t->count)
            j_fail(c, SL_EINVAL, "cannot unpack %zu values into %zu names", v.list->count, t->count);
        for (size_t i = 0; i < t->count; i++)
            assign(c, t->kids[i], v.list->items[i]);
    }
}

static jargs args_of(jctx *c, const jnode *n)
{
    jargs a = { j_alloc(c, n->count * sizeof(jval)), 0, j_alloc(c, n->count * sizeof(jpair)), 0 };

    for (size_t i = 0; i < n->count; i++) {
        if (n->kids[i]->kind == N_KWARG)
            a.kw[a.kw_count++] = (jpair){ n->kids[i]->value, eval(c, n->kids[i]->a) };
        else
            a.pos[a.count++] = eval(c, n->kids[i]);
    }
    return a;
}

static jval capture(jctx *c, const jnode *body, jscope *scope)
{
    jtext t = { 0 }, *old = c->out;
    jscope *old_scope = c->scope;

    c->out = &t;
    c->scope = scope;
    run(c, body);
    c->out = old;
    c->scope = old_scope;
    return jt_val(c, &t);
}

static jval call_macro(jctx *c, jmacro *m, const jargs *a)
{
    jscope *s = scope_new(c, m->scope), *old = c->scope;
    const jnode *n = m->node;
    jval rest = j_list(c, J_TUPLE);

    if (++c->depth > SL_TEMPLATE_DEPTH_MAX / 2)
        j_fail(c, SL_ELIMIT, "macros nested too deep");
    for (size_t i = 0; i < n->count; i++) {
        jval name = n->kids[i]->value, v = j_undef(name.s, name.len);
        bool given = i < a->count;
        if (given)
            v = a->pos[i];
        for (size_t k = 0; k < a->kw_count; k++)
            if (j_eq(c, a->kw[k].key, name))
                v = a->kw[k].value, given = true;
        c->scope = s;
        if (!given && n->kids[i]->a)
            v = eval(c, n->kids[i]->a);
        c->scope = old;
        define(c, s, name, v);
    }
    for (size_t i = n->count; i < a->count; i++)
        j_push(c, rest, a->pos[i]);
    define(c, s, j_strz("varargs"), rest);
    for (size_t k = 0; k < a->kw_count; k++)
        if (j_is(a->kw[k].key, "caller"))
            define(c, s, a->kw[k].key, a->kw[k].value);
    jval v = capture(c, n->b, s);
    c->depth--;
    return v;
}

jval j_call(jctx *c, jval fn, const jargs *a)
{
    j_step(c);
    if (fn.type == J_MACRO)
        return call_macro(c, fn.macro, a);
    if (fn.type == J_METHOD)
        return j_method(c, fn.method->self, j_str(fn.method->name, fn.method->len), a);
    if (fn.type == J_GLOBAL)
        return j_global(c, fn, a);
    if (fn.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(fn.len, 80), fn.s);
    j_fail(c, SL_EINVAL, "'%s' object is not callable", j_type_name(fn));
}

static jval loop_attr(jloop *l, jval name)
{
    int64_t n = (int64_t)l->items.list->count, i = (int64_t)l->at;
    jval *x = l->items.list->items;

    if (j_is(name, "index")) return j_int(i + 1);
    if (j_is(name, "index0")) return j_int(i);
    if (j_is(name, "revindex")) return j_int(n - i);
    if (j_is(name, "revindex0")) return j_int(n - i - 1);
    if (j_is(name, "first")) return j_bool(i == 0);
    if (j_is(name, "last")) return j_bool(i == n - 1);
    if (j_is(name, "length")) return j_int(n);
    if (j_is(name, "depth")) return j_int((int64_t)l->depth + 1);
    if (j_is(name, "depth0")) return j_int((int64_t)l->depth);
    if (j_is(name, "previtem") && i > 0) return x[i - 1];
    if (j_is(name, "nextitem") && i + 1 < n) return x[i + 1];
    return j_undef(name.s, name.len);
}

jval j_attr(jctx *c, jval v, jval name)
{
    jval *p;

    if (v.type == J_UNDEF)
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(v.len, 80), v.s);
    if (j_has_method(v, name)) {
        jval m = { .type = J_METHOD };
        m.method = j_alloc(c, sizeof *m.method);
        *m.method = (jmethod){ v, name.s, name.len };
        return m;
    }
    if (v.type == J_LOOP)
        return loop_attr(v.loop, name);
    if ((v.type == J_DICT || v.type == J_NS) && (p = j_get(v.dict, name)))
        return *p;
    return j_undef(name.s, name.len);
}

jval j_item(jctx *c, jval v, jval key)
{
    jval *p;

    if ((v.type == J_LIST || v.type == J_TUPLE || v.type == J_STR) && key.type == J_INT) {
        jval l = j_items(c, v);
        int64_t i = key.i < 0 ? key.i + (int64_t)l.list->count : key.i;
        return i >= 0 && i < (int64_t)l.list->count ? l.list->items[i] : j_undef("item", 4);
    }
    if (v.type == J_DICT && (p = j_get(v.dict, key)))
        return *p;
    if (v.type == J_UNDEF || key.type == J_STR)
        return j_attr(c, v, key.type == J_STR ? key : j_strz("item"));
    return j_undef("item", 4);
}

static jval slice(jctx *c, const jnode *n)
{
    jval v = eval(c, n->a), l = j_items(c, v), out = j_list(c, v.type == J_TUPLE ? J_TUPLE : J_LIST);
    jval a = n->b ? eval(c, n->b) : j_none(), b = n->c ? eval(c, n->c) : j_none(), s = n->d ? eval(c, n->d) : j_none();
    int64_t len = (int64_t)l.list->count, step = s.type == J_INT ? s.i : 1, from, to;
    jtext t = { 0 };

    if (!step)
        j_fail(c, SL_EINVAL, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    from = a.type == J_INT ? (a.i < 0 ? SL_MAX(a.i + len, low) : SL_MIN(a.i, high)) : step < 0 ? high : 0;
    to = b.type == J_INT ? (b.i < 0 ? SL_MAX(b.i + len, low) : SL_MIN(b.i, high)) : step < 0 ? -1 : len;
    step = SL_MAX(SL_MIN(step, len + 1), -len - 1);
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step)
        j_push(c, out, l.list->items[i]);
    if (v.type != J_STR)
        return out;
    for (size_t i = 0; i < out.list->count; i++)
        jt_put(c, &t, out.list->items[i].s, out.list->items[i].len);
    return jt_val(c, &t);
}

static bool compare(jctx *c, int op, jval a, jval b)
{
    switch (op) {
    case O_EQ: return j_eq(c, a, b);
    case O_NE: return !j_eq(c, a, b);
    case O_LT: return j_cmp(c, a, b, "<") < 0;
    case O_LE: return j_cmp(c, a, b, "<=") <= 0;
    case O_GT: return j_cmp(c, a, b, ">") > 0;
    case O_GE: return j_cmp(c, a, b, ">=") >= 0;
    default: return j_in(c, a, b) == (op == O_IN);
    }
}

/* a + b + c ... leans to the left: walked down once, then computed upwards without recursion. */
static jval eval_chain(jctx *c, const jnode *n)
{
    size_t count = 0, i = 0;
    const jnode **all, *x;
    jval v;

    for (x = n; x->kind == N_BINARY; x = x->a)
        count++;
    all = j_alloc(c, count * sizeof *all);
    for (x = n; x->kind == N_BINARY; x = x->a)
        all[i++] = x;
    v = eval(c, x);
    while (i-- > 0)
        v = j_binary(c, all[i]->op, v, eval(c, all[i]->b));
    return v;
}

static jval eval_in(jctx *c, const jnode *n)
{
    jval v, w, *p;

    switch (n->kind) {
    case N_CONST: return n->value;
    case N_NAME:
        if ((p = lookup(c->scope, n->value)))
            return *p;
        v = n->value;
        v.type = j_is_global(v) ? J_GLOBAL : J_UNDEF;
        return v;
    case N_LIST: case N_TUPLE:
        v = j_list(c, n->kind == N_LIST ? J_LIST : J_TUPLE);
        for (size_t i = 0; i < n->count; i++)
            j_push(c, v, eval(c, n->kids[i]));
        return v;
    case N_DICT:
        v = j_dict(c);
        for (size_t i = 0; i + 1 < n->count; i += 2) {
            w = eval(c, n->kids[i]);
            j_put(c, v.dict, w, eval(c, n->kids[i + 1]));
        }
        return v;
    case N_ATTR: return j_attr(c, eval(c, n->a), n->value);
    case N_ITEM: v = eval(c, n->a); return j_item(c, v, eval(c, n->b));
    case N_SLICE: return slice(c, n);
    case N_CALL: { v = eval(c, n->a); jargs a = args_of(c, n); return j_call(c, v, &a); }
    case N_FILTER: { v = eval(c, n->a); jargs a = args_of(c, n); return j_filter(c, n->value, v, &a); }
    case N_TEST: { v = eval(c, n->a); jargs a = args_of(c, n); return j_bool(j_test(c, n->value, v, &a)); }
    case N_UNARY: return j_binary(c, n->op == O_NEG ? O_SUB : O_ADD, j_int(0), eval(c, n->a));
    case N_BINARY: return eval_chain(c, n);
    case N_AND: v = eval(c, n->a); return j_true(v) ? eval(c, n->b) : v;
    case N_OR: v = eval(c, n->a); return j_true(v) ? v : eval(c, n->b);
    case N_NOT: return j_bool(!j_true(eval(c, n->a)));
    case N_COMPARE:
        v = eval(c, n->a);
        for (size_t i = 0; i < n->count; i++, v = w) {
            w = eval(c, n->kids[i]->b);
            if (!compare(c, n->kids[i]->op, v, w))
                return j_bool(false);
        }
        return j_bool(true);
    case N_COND: return j_true(eval(c, n->b)) ? eval(c, n->a) : n->c ? eval(c, n->c) : j_undef("", 0);
    default: j_fail(c, SL_EINVAL, "bad expression");
    }
}

static jval eval(jctx *c, const jnode *n)
{
    jval v;

    j_step(c);
    if (++c->eval_depth > JINJA_EVAL_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "expressions nested too deep");
    v = eval_in(c, n);
    c->eval_depth--;
    return v;
}

static int run_for(jctx *c, const jnode *n)
{
    jval all = j_items(c, eval(c, n->a)), items = j_list(c, J_LIST), lv = { .type = J_LOOP };
    jscope *old = c->scope;
    int r = GO_ON;

    for (size_t i = 0; i < all.list->count; i++) {
        c->scope = scope_new(c, old);
        if (n->d)
            assign(c, n->kids[0], all.list->items[i]);
        if (!n->d || j_true(eval(c, n->d)))
            j_push(c, items, all.list->items[i]);
    }
    lv.loop = j_alloc(c, sizeof *lv.loop);
    lv.loop->items = items;
    for (size_t i = 0; i < items.list->count && r != GO_BREAK; i++) {
        c->scope = scope_new(c, old);
        lv.loop->at = i;
        define(c, c->scope, j_strz("loop"), lv);
        assign(c, n->kids[0], items.list->items[i]);
        r = run(c, n->b);
    }
    c->scope = old;
    return items.list->count == 0 && n->c ? run(c, n->c) : GO_ON;
}

static jval filter_chain(jctx *c, const jnode *f, jval v)
{
    if (!f)
        return v;
    if (++c->eval_depth > JINJA_EVAL_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "filters chained too deep");
    v = filter_chain(c, f->a, v);
    c->eval_depth--;
    jargs a = args_of(c, f);
    return j_filter(c, f->value, v, &a);
}

static int run_scoped(jctx *c, const jnode *n)
{
    jscope *old = c->scope;
    int r;

    c->scope = scope_new(c, old);
    for (size_t i = 0; i < n->count; i++)
        assign(c, n->kids[i]->a, eval(c, n->kids[i]->b));
    r = run(c, n->b);
    c->scope = old;
    return r;
}

static int run(jctx *c, const jnode *n)
{
    jval v = { .type = J_MACRO };
    int r;

    j_step(c);
    if (n->kind != N_SEQ)
        c->line = n->line;
    switch (n->kind) {
    case N_SEQ:
        for (size_t i = 0; i < n->count; i++)
            if ((r = run(c, n->kids[i])) != GO_ON)
                return r;
        return GO_ON;
    case N_TEXT: jt_put(c, c->out, n->value.s, n->value.len); return GO_ON;
    case N_PRINT: j_print(c, c->out, eval(c, n->a)); return GO_ON;
    case N_IF:
        for (size_t i = 0; i + 1 < n->count; i += 2)
            if (j_true(eval(c, n->kids[i])))
                return run(c, n->kids[i + 1]);
        return n->c ? run(c, n->c) : GO_ON;
    case N_FOR: return run_for(c, n);
    case N_SET: assign(c, n->a, eval(c, n->b)); return GO_ON;
    case N_SETBLOCK: assign(c, n->a, filter_chain(c, n->c, capture(c, n->b, scope_new(c, c->scope)))); return GO_ON;
    case N_FILTERBLOCK: j_print(c, c->out, filter_chain(c, n->c, capture(c, n->b, scope_new(c, c->scope)))); return GO_ON;
    case N_WITH: return run_scoped(c, n);
    case N_BREAK: return GO_BREAK;
    case N_CONTINUE: return GO_CONTINUE;
    case N_MACRO: case N_CALLBLOCK:
        v.macro = j_alloc(c, sizeof *v.macro);
        *v.macro = (jmacro){ n, c->scope };
        if (n->kind == N_MACRO) {
            define(c, c->scope, n->value, v);
        } else if (n->a->kind == N_CALL) {
            jval fn = eval(c, n->a->a);
            jargs a = args_of(c, n->a);
            jpair *kw = j_alloc(c, (a.kw_count + 1) * sizeof *kw);
            memcpy(kw, a.kw, a.kw_count * sizeof *kw);
            kw[a.kw_count++] = (jpair){ j_strz("caller"), v };
            a.kw = kw;
            j_print(c, c->out, j_call(c, fn, &a));
        }
        return GO_ON;
    default: j_print(c, c->out, eval(c, n)); return GO_ON;
    }
}

sl_status token_template_render(const token_template *t, const json_t *vars, int64_t now_s, sl_buf *out, sl_err *err)
{
    jtext text = { 0 };
    jctx c = { .err = err, .now_s = now_s, .out = &text };
    const char *k;
    json_t *e;

    sl_arena_init(&c.arena, JINJA_ARENA_BYTES_MAX);
    if (setjmp(c.out_of) == 0) {
        c.scope = c.root = scope_new(&c, NULL);
        json_object_foreach((json_t *)vars, k, e)
            define(&c, c.root, j_strz(k), j_from_json(&c, e));
        c.scope = scope_new(&c, c.root);
        run(&c, t->body);
        sl_buf_put(out, text.p, text.len);
        c.status = sl_buf_ok(out, "rendered template", err);
    }
    sl_arena_deinit(&c.arena);
    return c.status;
}
