/* pretok_table.c - every pre-tokenizer that GGUF files name, as data: the names, the expressions
 * that are applied one after the other, and what else the name implies.
 *
 * The expressions are those that the models' own tokenizer.json files carry, so that upper and
 * lower case are told apart in all of Unicode. \s is Unicode's White_Space (see pretok.c). */
#include "token/token_int.h"

/* clang-format off */
#define RULE_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define RULE_LLAMA3 \
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{" \
    "N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define RULE_QWEN2 \
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{" \
    "N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define RULE_GPT4O \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?:" \
    "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt" \
    "}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM" \
    "]|'[lL][lL]|'[dD])?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|" \
    "\\s+"
#define RULE_LINES \
    "[^\\n]+|[\\n]+"
#define RULE_CJK \
    "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define RULE_CJK_CODER \
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define RULE_3N \
    "\\p{N}{1,3}"
#define RULE_BLOOM \
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
#define RULE_N \
    "\\p{N}"

/* The default rule comes last. */
static const pre_rule rules[] = {
    { "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
      { RULE_LLAMA3 },
      { split_llama3 }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "dbrx smaug-bpe",
      { RULE_LLAMA3 },
      { split_llama3 }, 0 },
    { "glm4 glm5",
      { RULE_LLAMA3 },
      { split_llama3 }, PRE_IGNORE_MERGES | PRE_NO_BOS },
    { "chatglm-bpe",
      { RULE_LLAMA3 },
      { split_llama3 }, PRE_NO_BOS },
    { "jais-2",
      { "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
        "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)"
        "|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!"
        "\\S)|\\s{1,2}(?!\\S)|\\s{1}" },
      { NULL }, 0 },
    { "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open grok-2 megrez",
      { RULE_QWEN2 },
      { split_qwen2 }, 0 },
    { "qwen35",
      { "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}"
        "\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { split_qwen35 }, 0 },
    { "laguna",
      { RULE_LINES,
        RULE_QWEN2 },
      { NULL }, 0 },
    { "ufakzeka",
      { "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?"
        "!\\S)|\\s+" },
      { NULL }, 0 },
    { "gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe giga"
      "chat a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
      { RULE_GPT2 },
      { split_gpt2 }, 0 },
    { "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
      { RULE_N,
        RULE_GPT2 },
      { split_digits_gpt2 }, 0 },
    { "gpt-4o llama4 kanana2 talkie minimax-m2",
      { RULE_GPT4O },
      { NULL }, 0 },
    { "granite-embed-multi-97m",
      { RULE_GPT4O },
      { NULL }, PRE_IGNORE_MERGES },
    { "tekken",
      { "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
        "+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M"
        "}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, PRE_IGNORE_MERGES | PRE_ADD_BOS },
    { "deepseek-llm",
      { "[\\r\\n]",
        "\\s?[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4"
        "}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}"
        "\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{"
        "48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}"
        "\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-"
        "\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"
        "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{"
        "1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd"
        "6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"
        "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{"
        "212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183"
        "}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}"
        "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-"
        "\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}"
        "\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10"
        "c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+",
        "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]"
        "+",
        "\\s+$",
        RULE_CJK_CODER,
        "\\p{N}+" },
      { NULL }, 0 },
    { "deepseek-coder",
      { "[\\r\\n]",
        "\\s?\\p{L}+",
        "\\s?\\p{P}+",
        RULE_CJK_CODER,
        RULE_N },
      { NULL }, 0 },
    { "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
      { RULE_3N,
        RULE_CJK,
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L"
        "}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, 0 },
    { "spark2_5",
      { RULE_3N,
        RULE_CJK,
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L"
        "}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+",
        RULE_N },
      { NULL }, 0 },
    { "falcon",
      { "[\\p{P}\\$\\+<=>\\^~\\|`]+",
        RULE_GPT2,
        "[0-9][0-9][0-9]" },
      { NULL }, 0 },
    { "bloom poro-chat gpt3-finnish",
      { RULE_BLOOM },
      { NULL }, 0 },
    { "viking",
      { RULE_BLOOM,
        RULE_N },
      { NULL }, 0 },
    { "gemma4 granite-embed-multi-311m",
      { RULE_LINES },
      { NULL }, PRE_RAW | PRE_ESCAPE | PRE_NEWLINES | PRE_FORCE_BOS },
    { "sarvam-moe",
      { RULE_LINES },
      { NULL }, PRE_RAW | PRE_ESCAPE },
    { "mmbert",
      { RULE_LINES },
      { NULL }, PRE_RAW | PRE_ESCAPE | PRE_NEWLINES | PRE_WORDS },
    { "whitespace",
      { "\\S+" },
      { NULL }, PRE_RAW },
    { "bailingmoe bailingmoe2 llada-moe",
      { "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^"
        "\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" },
      { NULL }, 0 },
    { "seed-coder",
      { "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
        "\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, 0 },
    { "superbpe",
      { "\\p{N}+",
        "(?=(?:\\d{3})+(?!\\d))" },
      { NULL }, 0 },
    { "kimi-k2",
      { "\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])*(?:"
        "(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}"
        "\\p{N}]?(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])+(?:(?!\\p{Han})[\\p{Ll}\\p{"
        "Lm}\\p{Lo}\\p{M}])*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+["
        "\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, 0 },
    { "tiny_aya cohere2moe",
      { "\\d{1,3}(?=(?:\\d{3})*\\b)",
        RULE_GPT4O },
      { NULL }, 0 },
    { "afmoe",
      { "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))",
        "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{8c48}-\\x{faff}\\x{3040}-\\x{309f}\\x{30a0}-"
        "\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}\\x{e80}-\\x{eff}\\x{178"
        "0}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}"
        "\\x{1100}-\\x{11ff}]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L"
        "}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, 0 },
    { "exaone-moe",
      { "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L"
        "}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?"
        "!\\S)|\\s+" },
      { NULL }, 0 },
    { "youtu",
      { "[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}"
        "\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|["
        "\\x{3105}-\\x{312f}]+|[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
        "+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\\r\\n\\p{L}\\p{N}]?[\\p{L"
        "u}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'["
        "vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|"
        "\\s+(?!\\S)|\\s+" },
      { NULL }, PRE_IGNORE_MERGES },
    { "chameleon",
      { "<sentinel:[0-9]+>",
        "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
        "([\\t\\n]|    |  )",
        RULE_N,
        "[\\p{P}!-/:-@\\[-`{-~]",
        RULE_GPT2 },
      { NULL }, PRE_ADD_BOS },
    { "minicpm5",
      { RULE_3N,
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
        "\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      { NULL }, PRE_IGNORE_MERGES },
    { "default",
      { "[\\p{P}\\$\\+<=>\\^~\\|]+",
        RULE_GPT2,
        "\\p{N}+",
        "[0-9][0-9][0-9]" },
      { NULL }, 0 },
};
/* clang-format on */

static bool has_name(const char *names, const char *name, size_t len)
{
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");

        if (n == len && memcmp(p, name, len) == 0)
            return true;
        p += n;
        p += *p == ' ';
    }
    return false;
}

const pre_rule *pre_rule_at(size_t i)
{
    return i < SL_COUNT_OF(rules) ? &rules[i] : NULL;
}

const pre_rule *pre_rule_find(const char *name, size_t len, bool *ret_known)
{
    *ret_known = true;
    for (size_t i = 0; i < SL_COUNT_OF(rules); i++)
        if (len && has_name(rules[i].names, name, len))
            return &rules[i];
    *ret_known = false;
    return &rules[SL_COUNT_OF(rules) - 1];
}

sl_status pre_rule_build(const pre_rule *rule, bool use_fast, pretok **ret, sl_err *err)
{
    pretok *p = pretok_new();
    sl_status status = p ? SL_OK : sl_fail(err, SL_ENOMEM, "pre-tokenizer");

    if (use_fast && rule->fast[0] && status == SL_OK)
        status = pretok_add_split(p, rule->fast[0], err);
    for (size_t i = 0; i < SL_COUNT_OF(rule->patterns) && rule->patterns[i]; i++) {
        if (status != SL_OK || (use_fast && rule->fast[0]))
            break;
        status = pretok_add_regex(p, rule->patterns[i], strlen(rule->patterns[i]), SPLIT_ISOLATED,
                                  false, err);
    }
    if (status == SL_OK)
        *ret = p;
    else
        pretok_destroy(p);
    return status;
}
