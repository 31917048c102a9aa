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
            j_fail(c, SL_EINVAL, "cannot unpack %zu values into %zu names", v.list->count,
                   t->count);
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
    return jt_val(&t);
}

static jval *find_kw(const jargs *a, jval name, jpair **ret)
{
    for (size_t i = 0; i < a->kw_count; i++) {
        if (a->kw[i].key.len == name.len && !memcmp(a->kw[i].key.s, name.s, name.len)) {
            *ret = &a->kw[i];
            return &a->kw[i].value;
        }
    }
    return NULL;
}

/* What a call gives beyond the parameters: varargs, kwargs and caller. */
static void bind_rest(jctx *c, const jnode *n, jscope *s, const jargs *a)
{
    jval rest = j_list(c, J_TUPLE), more = j_dict(c), caller = j_undef("caller", 6);

    for (size_t i = n->count; i < a->count; i++)
        j_push(c, rest, a->pos[i]);
    for (size_t k = 0; k < a->kw_count; k++) {
        bool param = false;
        for (size_t i = 0; i < n->count; i++)
            param = param || (i >= a->count && n->kids[i]->value.len == a->kw[k].key.len &&
                              !memcmp(n->kids[i]->value.s, a->kw[k].key.s, a->kw[k].key.len));
        if (param)
            continue;
        if (j_is(a->kw[k].key, "caller") && (n->op & JM_CALLER)) {
            caller = a->kw[k].value;
        } else {
            j_put(c, more.dict, a->kw[k].key, a->kw[k].value);
        }
    }
    if (more.dict->count && !(n->op & JM_KWARGS))
        j_fail(c, SL_EINVAL, "macro '%.*s' takes no keyword argument '%.*s'",
               (int)SL_MIN(n->value.len, 60u), n->value.s,
               (int)SL_MIN(more.dict->items[0].key.len, 60u), more.dict->items[0].key.s);
    if (a->count > n->count && !(n->op & JM_VARARGS))
        j_fail(c, SL_EINVAL, "macro '%.*s' takes not more than %zu argument(s)",
               (int)SL_MIN(n->value.len, 60u), n->value.s, n->count);
    if (n->op & JM_VARARGS)
        define(c, s, j_strz("varargs"), rest);
    if (n->op & JM_KWARGS)
        define(c, s, j_strz("kwargs"), more);
    if (n->op & JM_CALLER)
        define(c, s, j_strz("caller"), caller);
}

static jval call_macro(jctx *c, const jmacro *m, const jargs *a)
{
    jscope *s = scope_new(c, m->scope), *old = c->scope;
    const jnode *n = m->node;
    jpair *kw = NULL;

    if (++c->depth > SL_TEMPLATE_DEPTH_MAX / 2)
        j_fail(c, SL_ELIMIT, "macros nested too deep");
    bind_rest(c, n, s, a);
    c->scope = s;
    for (size_t i = 0; i < n->count; i++) {
        jval name = n->kids[i]->value, v = j_undef(name.s, name.len);
        const jval *given = i < a->count ? &a->pos[i] : find_kw(a, name, &kw);

        if (given)
            v = *given;
        else if (n->kids[i]->a)
            v = eval(c, n->kids[i]->a);
        define(c, s, name, v);
    }
    c->scope = old;
    jval v = capture(c, n->b, s);
    c->depth--;
    return v;
}

static int run_items(jctx *c, const jnode *n, jval v, size_t depth, jscope *scope, bool *empty);

/* loop(items) of a recursive loop. */
static jval call_loop(jctx *c, const jloop *l, const jargs *a)
{
    jtext t = { 0 }, *old = c->out;
    jscope *old_scope = c->scope;
    bool empty;

    if (!l->node || l->node->op != 1)
        j_fail(c, SL_EINVAL, "The loop must have the 'recursive' marker to be called recursively.");
    if (a->count != 1)
        j_fail(c, SL_EINVAL, "loop() takes one argument");
    if (++c->depth > SL_TEMPLATE_DEPTH_MAX / 2)
        j_fail(c, SL_ELIMIT, "loops nested too deep");
    c->out = &t;
    c->scope = l->scope;
    run_items(c, l->node, a->pos[0], l->depth + 1, l->scope, &empty);
    c->out = old;
    c->scope = old_scope;
    c->depth--;
    return jt_val(&t);
}

jval j_call(jctx *c, jval fn, const jargs *a)
{
    j_step(c);
    switch (fn.type) {
    case J_MACRO:
        return call_macro(c, fn.macro, a);
    case J_METHOD:
        return j_method(c, fn.method->self, j_str(fn.method->name, fn.method->len), a);
    case J_GLOBAL:
        return j_global(c, fn, a);
    case J_LOOP:
        return call_loop(c, fn.loop, a);
    case J_JOINER:
        if (!fn.iter->started) {
            fn.iter->started = true;
            return j_strz("");
        }
        return fn.iter->list->items[0];
    case J_UNDEF:
        j_fail(c, SL_EINVAL, "'%.*s' is undefined", (int)SL_MIN(fn.len, 80u), fn.s);
    default:
        j_fail(c, SL_EINVAL, "'%s' object is not callable", j_type_name(fn));
    }
}

static jval eval_or_none(jctx *c, const jnode *n)
{
    return n ? eval(c, n) : j_none();
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

/* A method is called without making a bound method first. */
static jval eval_call(jctx *c, const jnode *n)
{
    jval v;
    jargs a;

    if (n->a->kind == N_ATTR) {
        v = eval(c, n->a->a);
        if (j_has_method(v, n->a->value)) {
            a = args_of(c, n);
            return j_method(c, v, n->a->value, &a);
        }
        v = j_attr(c, v, n->a->value);
    } else {
        v = eval(c, n->a);
    }
    a = args_of(c, n);
    return j_call(c, v, &a);
}

/* tidy: long: one case for each kind of node */
static jval eval_in(jctx *c, const jnode *n)
{
    jval v, w, *p;

    switch (n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        if ((p = lookup(c->scope, n->value)))
            return *p;
        v = n->value;
        v.safe = false;
        v.type = j_is_global(v) ? J_GLOBAL : J_UNDEF;
        return v;
    case N_LIST:
    case N_TUPLE:
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
    case N_ATTR:
        return j_attr(c, eval(c, n->a), n->value);
    case N_ITEM:
        v = eval(c, n->a);
        return j_item(c, v, eval(c, n->b));
    case N_SLICE: {
        v = eval(c, n->a);
        jval from = eval_or_none(c, n->b), to = eval_or_none(c, n->c);
        return j_slice(c, v, from, to, eval_or_none(c, n->d));
    }
    case N_CALL:
        return eval_call(c, n);
    case N_FILTER: {
        v = eval(c, n->a);
        jargs a = args_of(c, n);
        return j_filter(c, n->value, v, &a);
    }
    case N_TEST: {
        v = eval(c, n->a);
        jargs a = args_of(c, n);
        return j_bool(j_test(c, n->value, v, &a));
    }
    case N_UNARY:
        return j_negate(c, n->op, eval(c, n->a));
    case N_BINARY:
        return eval_chain(c, n);
    case N_AND:
        v = eval(c, n->a);
        return j_true(v) ? eval(c, n->b) : v;
    case N_OR:
        v = eval(c, n->a);
        return j_true(v) ? v : eval(c, n->b);
    case N_NOT:
        return j_bool(!j_true(eval(c, n->a)));
    case N_COMPARE:
        v = eval(c, n->a);
        for (size_t i = 0; i < n->count; i++, v = w) {
            w = eval(c, n->kids[i]->b);
            if (!j_compare(c, n->kids[i]->op, v, w))
                return j_bool(false);
        }
        return j_bool(true);
    case N_COND:
        return j_true(eval(c, n->b)) ? eval(c, n->a) : n->c ? eval(c, n->c) : j_undef("", 0);
    default:
        j_fail(c, SL_EINVAL, "bad expression");
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

/* The items that pass the loop's filter; each is tried in a scope of its own. */
static jval filter_items(jctx *c, const jnode *n, jval all, size_t count)
{
    jval items = j_list(c, J_LIST);
    jscope *old = c->scope;

    for (size_t i = 0; i < count; i++) {
        c->scope = scope_new(c, old);
        assign(c, n->kids[0], j_nth(all, i));
        if (j_true(eval(c, n->d)))
            j_push(c, items, j_nth(all, i));
    }
    c->scope = old;
    return items;
}

static int run_items(jctx *c, const jnode *n, jval v, size_t depth, jscope *scope, bool *empty)
{
    jval lv = { .type = J_LOOP };
    jscope *s = NULL;
    size_t count;
    int r = GO_ON;

    v = j_seq(c, v, &count);
    if (n->d) {
        v = filter_items(c, n, v, count);
        count = v.list->count;
    }
    *empty = count == 0;
    lv.loop = j_alloc(c, sizeof *lv.loop);
    *lv.loop = (jloop){ .items = v, .count = count, .depth = depth, .node = n, .scope = scope };
    for (size_t i = 0; i < count && r != GO_BREAK; i++) {
        j_step(c);
        if (s && !s->kept)
            s->count = 0;
        else
            s = scope_new(c, scope);
        c->scope = s;
        lv.loop->at = i;
        define(c, s, j_strz("loop"), lv);
        assign(c, n->kids[0], j_nth(v, i));
        r = run(c, n->b);
    }
    c->scope = scope;
    return r;
}

static int run_for(jctx *c, const jnode *n)
{
    jscope *old = c->scope;
    bool empty;

    run_items(c, n, eval(c, n->a), 0, old, &empty);
    if (empty && n->c) {
        c->scope = scope_new(c, old);
        run(c, n->c);
        c->scope = old;
    }
    return GO_ON;
}

/* A macro looks into the scopes around it later, so loops may not reuse them. */
static jval make_macro(jctx *c, const jnode *n)
{
    jval v = { .type = J_MACRO };

    for (jscope *s = c->scope; s; s = s->up)
        s->kept = true;
    v.macro = j_alloc(c, sizeof *v.macro);
    *v.macro = (jmacro){ n, c->scope };
    return v;
}

static void run_callblock(jctx *c, const jnode *n)
{
    jval fn = eval(c, n->a->a);
    jargs a = args_of(c, n->a);
    jpair *kw = j_alloc(c, (a.kw_count + 1) * sizeof *kw);

    if (a.kw_count)
        memcpy(kw, a.kw, a.kw_count * sizeof *kw);
    kw[a.kw_count++] = (jpair){ j_strz("caller"), make_macro(c, n) };
    a.kw = kw;
    j_print(c, c->out, j_call(c, fn, &a));
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

    jscope *inner = scope_new(c, old);

    for (size_t i = 0; i < n->count; i++) { /* the values see the scope outside */
        jval v = eval(c, n->kids[i]->b);
        c->scope = inner;
        assign(c, n->kids[i]->a, v);
        c->scope = old;
    }
    c->scope = inner;
    r = run(c, n->b);
    c->scope = old;
    return r;
}

static int run_if(jctx *c, const jnode *n)
{
    for (size_t i = 0; i + 1 < n->count; i += 2)
        if (j_true(eval(c, n->kids[i])))
            return run(c, n->kids[i + 1]);
    return n->c ? run(c, n->c) : GO_ON;
}

static int run_seq(jctx *c, const jnode *n)
{
    int r = GO_ON;

    for (size_t i = 0; i < n->count && r == GO_ON; i++)
        r = run(c, n->kids[i]);
    return r;
}

static int run_in(jctx *c, const jnode *n)
{
    jval v;

    switch (n->kind) {
    case N_SEQ:
        return run_seq(c, n);
    case N_TEXT:
        jt_put(c, c->out, n->value.s, n->value.len);
        return GO_ON;
    case N_PRINT:
        v = eval(c, n->a);
        j_print(c, c->out, v);
        return GO_ON;
    case N_IF:
        return run_if(c, n);
    case N_FOR:
        return run_for(c, n);
    case N_SET:
        assign(c, n->a, eval(c, n->b));
        return GO_ON;
    case N_SETBLOCK:
        v = filter_chain(c, n->c, capture(c, n->b, scope_new(c, c->scope)));
        assign(c, n->a, v);
        return GO_ON;
    case N_FILTERBLOCK:
        v = filter_chain(c, n->c, capture(c, n->b, scope_new(c, c->scope)));
        j_print(c, c->out, v);
        return GO_ON;
    case N_WITH:
        return run_scoped(c, n);
    case N_BREAK:
        return GO_BREAK;
    case N_CONTINUE:
        return GO_CONTINUE;
    case N_MACRO:
        define(c, c->scope, n->value, make_macro(c, n));
        return GO_ON;
    case N_CALLBLOCK:
        run_callblock(c, n);
        return GO_ON;
    default:
        j_fail(c, SL_EINVAL, "bad statement");
    }
}

static int run(jctx *c, const jnode *n)
{
    int r;

    j_step(c);
    if (n->kind != N_SEQ)
        c->line = n->line;
    if (++c->eval_depth > JINJA_EVAL_DEPTH_MAX)
        j_fail(c, SL_ELIMIT, "blocks nested too deep");
    r = run_in(c, n);
    c->eval_depth--;
    return r;
}

/* Errors come back here; c and what it points to stay readable because they live outside. */
static sl_status guarded(jctx *c, const token_template *t, const json_t *vars)
{
    const char *k;
    json_t *e;

    if (setjmp(c->out_of) != 0)
        return c->status;
    c->scope = c->root = scope_new(c, NULL);
    json_object_foreach((json_t *)vars, k, e) define(c, c->root, j_strz(k), j_from_json(c, e));
    c->scope = scope_new(c, c->root);
    run(c, t->body);
    return SL_OK;
}

sl_status token_template_render(const token_template *t, const json_t *vars, int64_t now_s,
                                sl_buf *out, sl_err *err)
{
    jtext text = { 0 };
    jctx c = { .err = err, .now_s = now_s, .out = &text };
    sl_status st;

    c.steps_max = t->steps_max ? t->steps_max : SL_TEMPLATE_STEPS_MAX;
    sl_arena_init(&c.arena, JINJA_ARENA_BYTES_MAX);
    st = guarded(&c, t, vars);
    if (st == SL_OK) {
        sl_buf_put(out, text.p, text.len);
        st = sl_buf_ok(out, "rendered template", err);
        if (st != SL_OK && text.len <= out->max && out->len <= out->max - text.len)
            st = sl_fail(err, SL_ENOMEM, "no memory for the rendered template");
    }
    sl_arena_deinit(&c.arena);
    return st;
}

void token_template_bound(token_template *t, int64_t steps_max)
{
    t->steps_max = SL_MIN(steps_max, SL_TEMPLATE_STEPS_MAX);
}

void token_template_destroy(token_template *t)
{
    if (!t)
        return;
    sl_arena_deinit(&t->arena);
    sl_free(t);
}
