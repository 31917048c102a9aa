/* pretok_table.c - which pre-tokenizer name means which expressions.
 *
 * Expressions of a rule run in sequence: every piece so far is cut into the matches and the gaps
 * between them. They are written for PCRE2 with UTF and UCP. */
#include "token/token_int.h"

#define CI            "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define SPACES        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2          "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD          "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define PUNCT         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define LLAMA3        CI "|" WORD "\\p{N}{1,3}|" PUNCT SPACES
#define QWEN2         CI "|" WORD "\\p{N}|" PUNCT SPACES
#define UP            "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOW           "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD          "[^\\r\\n\\p{L}\\p{N}]?"
#define CASED(suffix) LEAD UP "*" LOW "+" suffix "|" LEAD UP "+" LOW "*" suffix "|"
#define PUNCT2        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
#define GPT4O         CASED(CI "?") "\\p{N}{1,3}|" PUNCT2 SPACES
#define ASCII_P       "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DS3           ASCII_P "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define CJK           "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define HAN_DS        "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define BLOOM         " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{0964}\\x{06D4}\\x{060C})]+"
#define NOHAN(set)    "(?:(?!\\p{Han})" set ")"
#define KIMI                                                                                       \
    "\\p{Han}+|" LEAD NOHAN(UP) "*" NOHAN(LOW) "+" CI "?|" LEAD NOHAN(UP) "+" NOHAN(               \
        LOW) "*" CI "?|\\p{N}{1,3}|" PUNCT SPACES
#define BY_THREES "\\p{Nd}{1,3}(?=(?:\\p{Nd}{3})*(?!\\p{Nd}))"
#define LATIN     "(?:(?![\\x{10D0}-\\x{10FF}])[\\p{Ll}\\p{Lu}\\p{Lt}])"
#define RUN(n)    "\\s{" #n "}(?!\\S)|"
#define JAIS2                                                                                      \
    CI "|" WORD "\\p{N}{1,3}|" PUNCT "\\s*[\\r\\n]+|" RUN(512) RUN(256) RUN(128) RUN(64) RUN(32)   \
        RUN(16) RUN(8) RUN(4) "\\s{1,2}(?!\\S)|\\s{1}"

static const pretok_rule rules[] = {
    { " llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
      { LLAMA3 },
      SPLIT_LLAMA3,
      .ignore_merges = true,
      .add_bos = true },
    { " dbrx smaug-bpe chatglm-bpe ", { LLAMA3 }, SPLIT_LLAMA3 },
    { " glm4 glm5 ", { LLAMA3 }, SPLIT_LLAMA3, .ignore_merges = true },
    { " jais-2 ", { JAIS2 } },
    { " qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open grok-2 megrez ",
      { QWEN2 },
      SPLIT_QWEN2 },
    { " qwen35 ",
      { CI "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
           "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES } },
    { " laguna ", { "[^\\n]+|[\\n]+", QWEN2 } },
    { " ufakzeka ", { WORD "\\p{N}|" PUNCT SPACES } },
    { " gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert mpt "
      "olmo jais trillion granite-docling exaone4 ",
      { GPT2 },
      SPLIT_GPT2 },
    { " jina-v1-en jina-v2-code roberta-bpe ", { GPT2 }, SPLIT_GPT2, .add_sep = true },
    { " starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ",
      { "\\p{N}", GPT2 },
      SPLIT_DIGITS_GPT2 },
    { " gpt-4o llama4 kanana2 talkie minimax-m2 ", { GPT4O } },
    { " granite-embed-multi-97m ", { GPT4O }, .ignore_merges = true },
    { " tekken ", { CASED("") "\\p{N}|" PUNCT2 SPACES }, .ignore_merges = true, .add_bos = true },
    { " deepseek-llm ",
      { "[\\r\\n]", "\\s?" LATIN "+",
        "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
        "\\s+$", HAN_DS, "\\p{N}+" } },
    { " deepseek-coder ", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_DS, "\\p{N}" } },
    { " deepseek-v3 hunyuan-dense joyai-llm hy_v4 ",
      { "\\p{N}{1,3}", CJK, DS3 "[\\r\\n]*|" SPACES } },
    { " spark2_5 ", { "\\p{N}{1,3}", CJK, DS3 "|[\\r\\n]|\\s+(?!\\S)|\\s+", "\\p{N}" } },
    { " youtu ",
      { "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|"
        "[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{"
        "FF0C}"
        "\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CJK,
        CASED(CI "?") "\\p{N}|" PUNCT2 SPACES },
      .ignore_merges = true },
    { " falcon ", { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]" } },
    { " bloom poro-chat gpt3-finnish ", { BLOOM } },
    { " viking ", { BLOOM, "\\p{N}" } },
    { " gemma4 granite-embed-multi-311m sarvam-moe mmbert ", { "[^\\n]+|[\\n]+" }, .raw = true },
    { " whitespace ", { "\\S+" }, .raw = true },
    { " bailingmoe bailingmoe2 llada-moe ",
      { "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD "\\p{N}|" PUNCT
        "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" } },
    { " seed-coder ", { CI "|" WORD "\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES } },
    { " superbpe ", { "\\p{N}+", BY_THREES } },
    { " kimi-k2 ", { KIMI } },
    { " tiny_aya cohere2moe ", { "\\d{1,3}(?=(?:\\d{3})*\\b)", GPT4O } },
    { " afmoe ",
      { BY_THREES,
        "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}"
        "\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{0E00}-\\x{0E7F}"
        "\\x{0E80}-\\x{0EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"
        "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+",
        DS3 "[\\r\\n]*|" SPACES } },
    { " exaone-moe ",
      { CI "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
           " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" } },
    { " chameleon ",
      { "<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}",
        "[\\p{P}!-/:-@\\[-`{-~]", GPT2 } },
    { " minicpm5 ", { "\\p{N}{1,3}", CI "|" WORD "\\p{N}+|" PUNCT SPACES }, .ignore_merges = true },
};

static const pretok_rule fallback = {
    " default ", { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" }
};

const pretok_rule *pretok_default(void)
{
    return &fallback;
}

const pretok_rule *pretok_find(const char *name)
{
    char key[80];
    size_t n = strlen(name);

    if (!n || n > 64 || strchr(name, ' '))
        return NULL;
    key[0] = key[n + 1] = ' ';
    memcpy(key + 1, name, n);
    key[n + 2] = 0;
    for (size_t i = 0; i < SL_COUNT_OF(rules); i++)
        if (strstr(rules[i].names, key))
            return &rules[i];
    return NULL;
}
