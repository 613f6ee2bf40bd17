/*
 * For CI only: the names and signatures of LiteRT's Kotlin API that the app uses, run by libLiteRt.so on Linux. The
 * app's adapter compiles and runs against this unchanged; on a phone Google's own library takes its place.
 */
package com.google.ai.edge.litert

import com.sun.jna.Callback
import com.sun.jna.Memory
import com.sun.jna.Pointer
import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference

enum class Accelerator(
    val value: Int,
) {
    NONE(0),
    CPU(1),
    GPU(2),
    NPU(4),
}

class LiteRtException(
    val code: Int,
    message: String,
) : Exception(message)

abstract class JniHandle internal constructor() : AutoCloseable {
    private var destroyed = false

    internal fun assertNotDestroyed() = check(!destroyed) { "used after close()" }

    protected abstract fun destroy()

    final override fun close() {
        if (!destroyed) destroy()
        destroyed = true
    }
}

class TensorBuffer internal constructor(
    internal val pointer: Pointer,
    private val size: Int,
) : JniHandle() {
    private val address = PointerByReference()

    fun writeFloat(data: FloatArray) {
        assertNotDestroyed()
        if (data.size > size) throw LiteRtException(1, "write ${data.size} floats into a buffer of $size")
        ok(c.LiteRtLockTensorBuffer(pointer, address, WRITE), "lock")
        address.value.write(0, data, 0, data.size)
        ok(c.LiteRtUnlockTensorBuffer(pointer), "unlock")
    }

    fun readFloat(): FloatArray {
        assertNotDestroyed()
        ok(c.LiteRtLockTensorBuffer(pointer, address, READ), "lock")
        return address.value.getFloatArray(0, size).also { ok(c.LiteRtUnlockTensorBuffer(pointer), "unlock") }
    }

    override fun destroy() = c.LiteRtDestroyTensorBuffer(pointer)

    private companion object {
        const val READ = 0
        const val WRITE = 1
    }
}

/** A compiled model; everything that belongs to it is destroyed with it. */
class CompiledModel private constructor(
    private val model: Pointer,
    private val options: Pointer,
    private val compiled: Pointer,
    private val keep: List<Any>,
) : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    ) {
        /** The options as the C library reads them: TOML. */
        internal fun toml(): String =
            listOfNotNull(
                numThreads?.let { "num_threads = $it\n" },
                xnnPackFlags?.let { "flags = $it\n" },
                xnnPackWeightCachePath?.let { "weight_cache_file_path = \"$it\"\n" },
            ).joinToString("")
    }

    class Options(
        internal vararg val accelerators: Accelerator,
    ) {
        var cpuOptions: CpuOptions? = null
    }

    private val signature = made("find the signature") { c.LiteRtGetModelSignature(model, 0, it) }
    private val inputNames =
        names(count { c.LiteRtGetNumSignatureInputs(signature, it) }, c::LiteRtGetSignatureInputName)
    private val outputNames =
        names(count { c.LiteRtGetNumSignatureOutputs(signature, it) }, c::LiteRtGetSignatureOutputName)

    private fun count(ask: (LongByReference) -> Int): Int {
        val result = LongByReference()
        ok(ask(result), "count tensors")
        return result.value.toInt()
    }

    private fun names(
        count: Int,
        ask: (Pointer, Long, PointerByReference) -> Int,
    ) = List(count) { i -> made("name a tensor") { ask(signature, i.toLong(), it) }.getString(0) }

    private fun List<String>.find(name: String): Long {
        val index = indexOf(name)
        if (index < 0) throw LiteRtException(NOT_FOUND, "no tensor $name; the model has ${joinToString()}")
        return index.toLong()
    }

    private fun buffer(
        tensor: Pointer,
        requirements: Pointer,
    ): TensorBuffer {
        val type = Memory(TENSOR_TYPE_BYTES)
        ok(c.LiteRtGetRankedTensorType(tensor, type), "ask for a type")
        if (type.getInt(0) !=
            FLOAT32
        ) {
            throw LiteRtException(1, "only float32 tensors, got element type ${type.getInt(0)}")
        }
        val rank = type.getByte(4).toInt() and 0x7f
        val size = (0 until rank).fold(1) { product, i -> product * type.getInt(8L + 4 * i) }
        val made =
            made("create a buffer") {
                c.LiteRtCreateManagedTensorBufferFromRequirements(environment, type, requirements, it)
            }
        return TensorBuffer(made, size)
    }

    fun createInputBuffer(
        inputName: String,
        signature: String = "",
    ): TensorBuffer {
        checkSignature(signature)
        val i = inputNames.find(inputName)
        val tensor = made("find $inputName") { c.LiteRtGetSignatureInputTensorByIndex(this.signature, i, it) }
        return buffer(
            tensor,
            made("size $inputName") { c.LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, i, it) },
        )
    }

    fun createOutputBuffer(
        outputName: String,
        signature: String = "",
    ): TensorBuffer {
        checkSignature(signature)
        val i = outputNames.find(outputName)
        val tensor = made("find $outputName") { c.LiteRtGetSignatureOutputTensorByIndex(this.signature, i, it) }
        return buffer(
            tensor,
            made("size $outputName") { c.LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, i, it) },
        )
    }

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ) {
        assertNotDestroyed()
        checkSignature(signature)
        val from = ordered(inputNames, inputs)
        val to = ordered(outputNames, outputs)
        ok(c.LiteRtRunCompiledModel(compiled, 0, from.size.toLong(), from, to.size.toLong(), to), "run the model")
    }

    private fun ordered(
        names: List<String>,
        buffers: Map<String, TensorBuffer>,
    ): Array<Pointer> =
        Array(names.size) { i ->
            buffers[names[i]]?.pointer ?: throw LiteRtException(NOT_FOUND, "no buffer given for ${names[i]}")
        }

    private fun checkSignature(signature: String) {
        if (signature.isEmpty()) return
        throw LiteRtException(1, "this stand-in knows the default signature only, got $signature")
    }

    override fun destroy() {
        c.LiteRtDestroyCompiledModel(compiled)
        c.LiteRtDestroyOptions(options)
        c.LiteRtDestroyModel(model)
        check(keep.size < Int.MAX_VALUE)
    }

    companion object {
        private const val FLOAT32 = 1
        private const val NOT_FOUND = 6
        private const val TENSOR_TYPE_BYTES = 72L
        private val nothing =
            object : Callback {
                @Suppress("unused", "UNUSED_PARAMETER")
                fun callback(payload: Pointer?) = Unit
            }

        fun create(
            filePath: String,
            options: Options,
        ): CompiledModel {
            val model = made("load $filePath") { c.LiteRtCreateModelFromFile(environment, filePath, it) }
            val native = made("create options") { c.LiteRtCreateOptions(it) }
            val set = options.accelerators.fold(0) { set, one -> set or one.value }
            ok(c.LiteRtSetOptionsHardwareAccelerators(native, set), "set accelerators")
            val keep = mutableListOf<Any>(nothing)
            options.cpuOptions?.let { cpu ->
                val bytes = cpu.toml().toByteArray()
                val payload = Memory(bytes.size + 1L).apply { write(0, bytes, 0, bytes.size) }
                payload.setByte(bytes.size.toLong(), 0)
                keep += payload
                val opaque = made("set CPU options") { c.LiteRtCreateOpaqueOptions("xnnpack", payload, nothing, it) }
                ok(c.LiteRtAddOpaqueOptions(native, opaque), "set CPU options")
            }
            val compiled = made("compile $filePath") { c.LiteRtCreateCompiledModel(environment, model, native, it) }
            return CompiledModel(model, native, compiled, keep)
        }
    }
}
