// TypeScript → JavaScript, without looking at types: node transpile.mjs IN OUT
import { readFileSync, writeFileSync } from "node:fs";
import ts from "typescript";

const [from, to] = process.argv.slice(2);
const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
const made = ts.transpileModule(readFileSync(from, "utf8"), { compilerOptions: options, reportDiagnostics: true });
for (const each of made.diagnostics) throw new Error(ts.flattenDiagnosticMessageText(each.messageText, "\n"));
writeFileSync(to, made.outputText);
