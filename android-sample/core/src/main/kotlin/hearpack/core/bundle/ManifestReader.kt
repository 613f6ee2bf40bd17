package hearpack.core.bundle

import hearpack.core.audio.DspReader
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.json.JSONTokener

// What no phone's model comes near to (runtimes/bundle/manifest.py): a wrong figure is not met as a full memory.
private const val MOST_SAMPLES = 1 shl 24 // of a window, a hop, a delay
internal const val MOST_ELEMENTS = 1 shl 26 // of a tensor
private const val MOST_AXES = 8
private const val MOST_CHANNELS = 64
private const val MOST_OVERLAP = 256 // windows that share a sample
private const val MOST_SMOOTHED = 10_000
private const val LONGEST_MS = 3_600_000.0
internal const val LOWEST_RATE_HZ = 4_000
internal const val HIGHEST_RATE_HZ = 192_000
private const val END = '\u0000' // what a tokener gives after the last character

/**
 * Reads manifest.json and refuses what runtimes/bundle/manifest.py refuses. Unknown fields are ignored, but for the parts
 * that people edit: there an unknown key is a slip of theirs.
 */
object ManifestReader {
    /**
     * @param text the manifest's text.
     * @param origin names the bundle in messages.
     * @throws BundleException not JSON, of a newer schema, or invalid.
     */
    fun parse(
        text: String,
        origin: String,
    ): Manifest {
        val data = parseJson(text, origin)
        checkSchema(data.opt("schema"), origin)
        try {
            return Fields(data, "").manifest().also(::checkConsistent)
        } catch (e: InvalidField) {
            val message = "$origin: invalid against $SCHEMA: ${e.message}; export the bundle again"
            throw BundleException(BundleFault.INVALID, message, e)
        }
    }

    /** One JSON object and nothing after it. */
    internal fun parseJson(
        text: String,
        origin: String,
    ): JSONObject {
        val why =
            try {
                val tokens = JSONTokener(text)
                val data = JSONObject(tokens)
                if (tokens.nextClean() == END) return data
                "something stands after it"
            } catch (e: JSONException) {
                e.message
            } catch (_: StackOverflowError) {
                // the parser calls itself for what is nested
                "nested too deeply"
            }
        throw BundleException(BundleFault.INVALID, "$origin: not JSON ($why); install it again")
    }

    private fun checkSchema(
        schema: Any?,
        origin: String,
    ) {
        if (schema !is String || !schema.startsWith("hearpack/")) {
            throw BundleException(BundleFault.INVALID, "$origin: expected a manifest with schema $SCHEMA, got $schema")
        }
        if (schema.substringBefore('.') != SCHEMA) {
            val message = "$origin: schema $schema is not one this app reads ($SCHEMA); update the app or export again"
            throw BundleException(BundleFault.NEWER_SCHEMA, message)
        }
    }

    private fun checkConsistent(m: Manifest) {
        val audio = m.inputs.first()
        val expected =
            if (m.buffer.kind == BufferKind.WINDOW) {
                m.geometry.windowSamples
            } else {
                m.buffer.hopsPerCall * m.geometry.hopSamples
            }
        require(m.task != Task.CLASSIFIER || m.decisions != null) { "a classifier must have `decisions`" }
        require(m.geometry.channels == 1) { "geometry.channels: this app is mono, got ${m.geometry.channels}" }
        require(audio.name == "audio") { "the first input must be `audio`, got ${audio.name}" }
        require(m.inputs.size == 1) { "this app feeds `audio` alone, the model also takes ${m.inputs[1].name}" }
        require(audio.shape.last() == m.buffer.samples) {
            "audio takes ${audio.shape.last()} samples, buffer.samples says ${m.buffer.samples}"
        }
        require(m.buffer.samples == expected) {
            "buffer.samples is ${m.buffer.samples}, geometry and hops_per_call give $expected"
        }
        require(m.hopSamples.toLong() * MOST_OVERLAP >= m.buffer.samples) {
            "a hop of ${m.hopSamples} makes more than $MOST_OVERLAP windows share a sample"
        }
        require(
            m.buffer.kind != BufferKind.STEP || m.decisions == null || m.decisions.windowHopSamples == m.hopSamples,
        ) {
            "decisions.window_hop_samples: a step net gives scores every ${m.hopSamples} samples, once per call"
        }
        val scores = m.outputs.first().size
        require(m.task != Task.ENHANCER || scores == m.buffer.samples) {
            "${m.outputs.first().name} must give ${m.buffer.samples} samples per call, got $scores"
        }
        require(m.decisions == null || m.decisions.smoothingWindows.toLong() * scores <= MOST_ELEMENTS) {
            "decisions.smoothing_windows: too many for $scores scores"
        }
        val names = (m.files + m.artefacts.flatMap { it.files }).map { it.path.lowercase() }
        require(names.size == names.toSet().size) { "files: a path is listed twice" }
        val ids = m.artefacts.map { it.id }
        require(ids.size == ids.toSet().size) { "artefact ids are not unique" }
        DspReader.check(m)
    }

    private inline fun require(
        condition: Boolean,
        message: () -> String,
    ) {
        if (!condition) throw InvalidField(message())
    }
}

internal class InvalidField(
    message: String,
) : Exception(message)

/** The fields of one JSON object; [path] names it in messages. */
internal class Fields(
    private val data: JSONObject,
    private val path: String,
) {
    fun manifest() =
        Manifest(
            schema = string("schema"),
            name = name("name"),
            task = choice("task", Task.entries),
            geometry = inner("geometry").geometry(),
            buffer = inner("buffer").buffer(),
            inputs = list("inputs", 1) { it.tensor() },
            outputs = list("outputs", 1) { it.tensor() },
            states = list("states", 0) { it.state() },
            decisions = optional("decisions")?.decisions(),
            dsp = if (has("dsp")) list("dsp", 0) { DspReader.stage(it) } else emptyList(),
            prefillSamples = optional("playout")?.playout(),
            artefacts = list("artefacts", 1) { it.artefact() },
            files = files(),
        )

    private fun playout(): Int {
        onlyKnown("prefill_samples")
        return int("prefill_samples", 0)
    }

    private fun files(): List<FileEntry> {
        if (!has("files")) {
            throw InvalidField("no `files`, the list with a hash of every file: made by a hearpack that had none")
        }
        return list("files", 0) { it.file() }
    }

    private fun geometry() =
        Geometry(
            int("sample_rate_hz", LOWEST_RATE_HZ, HIGHEST_RATE_HZ),
            int("channels", 1, MOST_CHANNELS),
            int("window_samples", 1),
            int("hop_samples", 1),
            int("delay_samples", 0),
        )

    private fun buffer() = BufferSpec(choice("kind", BufferKind.entries), int("hops_per_call", 1), int("samples", 1))

    private fun tensor() = float32 { TensorSpec(name("name"), shape("shape")) }

    private fun state() =
        float32 {
            if (string("reset") != "zeros") fail("reset", "zeros", string("reset"))
            StateSpec(name("in"), name("out"), shape("shape"))
        }

    private fun <T> float32(make: () -> T): T {
        if (string("dtype") != "float32") fail("dtype", "float32", string("dtype"))
        return make()
    }

    private fun decisions(): Decisions {
        onlyKnown(
            "window_hop_samples",
            "smoothing_windows",
            "on_threshold",
            "off_threshold",
            "min_on_ms",
            "min_off_ms",
            "per_label",
        )
        val decisions =
            Decisions(
                windowHopSamples = int("window_hop_samples", 1),
                smoothingWindows = if (has("smoothing_windows")) int("smoothing_windows", 1, MOST_SMOOTHED) else 1,
                onThreshold = numberOrNull("on_threshold", 1.0) ?: 0.5,
                offThreshold = numberOrNull("off_threshold", 1.0) ?: 0.3,
                minOnMs = numberOrNull("min_on_ms", LONGEST_MS) ?: 0.0,
                minOffMs = numberOrNull("min_off_ms", LONGEST_MS) ?: 0.0,
                perLabel = optional("per_label")?.labels() ?: emptyMap(),
            )
        for ((label, own) in decisions.perLabel + mapOf("" to LabelDecisions(null, null, null, null))) {
            val on = own.onThreshold ?: decisions.onThreshold
            val off = own.offThreshold ?: decisions.offThreshold
            if (off > on) throw InvalidField("${path}off_threshold: $off is above on_threshold $on $label".trimEnd())
        }
        return decisions
    }

    private fun labels(): Map<String, LabelDecisions> =
        names().associateWith {
            val fields = inner(it)
            fields.onlyKnown("on_threshold", "off_threshold", "min_on_ms", "min_off_ms")
            LabelDecisions(
                fields.numberOrNull("on_threshold", 1.0),
                fields.numberOrNull("off_threshold", 1.0),
                fields.numberOrNull("min_on_ms", LONGEST_MS),
                fields.numberOrNull("min_off_ms", LONGEST_MS),
            )
        }

    private fun artefact() =
        Artefact(
            id = name("id"),
            format = string("format"),
            files = list("files", 1) { it.file() },
            androidApi =
                optional(
                    "minimum_os",
                )?.let { if (it.has("android_api")) it.int("android_api", 1) else 1 } ?: 1,
            allowedCompute =
                strings(
                    "allowed_compute",
                ).map { unit(it) }.ifEmpty { fail("allowed_compute", "at least one unit", "none") },
            io = optional("io")?.let { io -> io.names().associateWith { io.string(it) } } ?: emptyMap(),
            tolerance = list("tolerance", 0) { Tolerance(it.string("metric"), it.number("limit")) },
        )

    private fun unit(name: String): ComputeUnit =
        ComputeUnit.entries.find { it.name.lowercase() == name } ?: fail("allowed_compute", "cpu, gpu or npu", name)

    private fun file(): FileEntry {
        val file = path("path")
        val sha256 = string("sha256")
        if (!Regex("[0-9a-f]{64}").matches(sha256)) fail("sha256", "64 hexadecimal digits", sha256)
        return FileEntry(file, sha256, whole("bytes", 0, LARGEST_FILE))
    }

    private fun path(name: String): String =
        string(name).also { if (!isInside(it)) fail(name, "a path inside the bundle", it) }

    private fun name(name: String): String =
        string(name).also { if (!isName(it)) fail(name, "up to 128 letters, digits, '_', '-' and '.'", it) }

    fun has(name: String) = !data.isNull(name)

    fun names(): List<String> =
        data
            .keys()
            .asSequence()
            .map { it.toString() }
            .sorted()
            .toList()

    private fun fail(
        name: String,
        expected: String,
        came: Any?,
    ): Nothing = throw InvalidField("$path$name: expected $expected, got ${came ?: "nothing"}")

    /** Refuses by name what is not in [known]: of the parts that people edit. */
    private fun onlyKnown(vararg known: String) {
        val unknown = names().firstOrNull { it !in known } ?: return
        throw InvalidField("${path}$unknown: unknown key; known: ${known.joinToString()}")
    }

    fun string(name: String): String = data.opt(name) as? String ?: fail(name, "a text", data.opt(name))

    fun number(name: String): Double {
        val value = (data.opt(name) as? Number)?.toDouble() ?: fail(name, "a number", data.opt(name))
        return if (value.isInfinite() || value.isNaN()) fail(name, "a finite number", value) else value
    }

    private fun numberOrNull(
        name: String,
        highest: Double,
    ): Double? {
        if (!has(name)) return null
        return number(name).also { if (it < 0.0 || it > highest) fail(name, "0 to $highest", it) }
    }

    fun int(
        name: String,
        lowest: Int,
        highest: Int = MOST_SAMPLES,
    ): Int = whole(name, lowest.toLong(), highest.toLong()).toInt()

    private fun whole(
        name: String,
        lowest: Long,
        highest: Long,
    ): Long {
        val value = number(name)
        if (value != Math.rint(value)) fail(name, "a whole number", data.opt(name))
        if (value < lowest) fail(name, "a whole number of at least $lowest", data.opt(name))
        if (value > highest) fail(name, "a whole number of at most $highest", data.opt(name))
        return value.toLong()
    }

    private fun <T : Enum<T>> choice(
        name: String,
        values: List<T>,
    ): T {
        val text = string(name)
        val valid = values.map { it.name.lowercase() }
        return values.find { it.name.lowercase() == text } ?: fail(name, valid.joinToString(" or "), text)
    }

    fun inner(name: String): Fields = optional(name) ?: fail(name, "an object", data.opt(name))

    private fun optional(name: String): Fields? {
        if (!has(name)) return null
        val value = data.opt(name) as? JSONObject ?: fail(name, "an object", data.opt(name))
        return Fields(value, "$path$name.")
    }

    private fun array(name: String): JSONArray = data.opt(name) as? JSONArray ?: fail(name, "a list", data.opt(name))

    fun <T> list(
        name: String,
        atLeast: Int,
        atMost: Int = Int.MAX_VALUE,
        item: (Fields) -> T,
    ): List<T> {
        val array = array(name)
        if (array.length() < atLeast) fail(name, "at least $atLeast entries", array.length())
        if (array.length() > atMost) fail(name, "at most $atMost entries", array.length())
        return List(array.length()) { i ->
            val value = array.opt(i) as? JSONObject ?: fail("$name.$i", "an object", array.opt(i))
            item(Fields(value, "$path$name.$i."))
        }
    }

    private fun strings(name: String): List<String> {
        val array = array(name)
        return List(array.length()) { array.opt(it) as? String ?: fail("$name.$it", "a text", array.opt(it)) }
    }

    /** Sizes of a tensor's axes. */
    fun shape(name: String): List<Int> {
        val array = array(name)
        if (array.length() !in 1..MOST_AXES) fail(name, "1 to $MOST_AXES axes", array.length())
        val sizes =
            List(array.length()) {
                val n = (array.opt(it) as? Number)?.toDouble() ?: fail("$name.$it", "a whole number", array.opt(it))
                if (n != Math.rint(n) || n < 1) fail("$name.$it", "a whole number of at least 1", array.opt(it)) else n
            }
        if (!(sizes.reduce(Double::times) <= MOST_ELEMENTS)) fail(name, "at most $MOST_ELEMENTS elements", sizes)
        return sizes.map { it.toInt() }
    }
}
