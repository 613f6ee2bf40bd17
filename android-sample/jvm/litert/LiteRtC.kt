package com.google.ai.edge.litert

import com.sun.jna.Callback
import com.sun.jna.Library
import com.sun.jna.Native
import com.sun.jna.Pointer
import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference

/** The part of LiteRT's C API that the stand-in needs; libLiteRt.so of the ai-edge-litert wheel. size_t is Long. */
@Suppress("ktlint:standard:function-naming", "FunctionName", "LongParameterList")
internal interface LiteRtC : Library {
    fun LiteRtCreateEnvironment(
        count: Int,
        options: Pointer?,
        environment: PointerByReference,
    ): Int

    fun LiteRtCreateModelFromFile(
        environment: Pointer,
        path: String,
        model: PointerByReference,
    ): Int

    fun LiteRtDestroyModel(model: Pointer)

    fun LiteRtCreateOptions(options: PointerByReference): Int

    fun LiteRtDestroyOptions(options: Pointer)

    fun LiteRtSetOptionsHardwareAccelerators(
        options: Pointer,
        set: Int,
    ): Int

    fun LiteRtCreateOpaqueOptions(
        identifier: String,
        payload: Pointer,
        deleter: Callback,
        options: PointerByReference,
    ): Int

    fun LiteRtAddOpaqueOptions(
        options: Pointer,
        opaque: Pointer,
    ): Int

    fun LiteRtCreateCompiledModel(
        environment: Pointer,
        model: Pointer,
        options: Pointer,
        compiled: PointerByReference,
    ): Int

    fun LiteRtDestroyCompiledModel(compiled: Pointer)

    fun LiteRtGetModelSignature(
        model: Pointer,
        index: Long,
        signature: PointerByReference,
    ): Int

    fun LiteRtGetNumSignatureInputs(
        signature: Pointer,
        count: LongByReference,
    ): Int

    fun LiteRtGetNumSignatureOutputs(
        signature: Pointer,
        count: LongByReference,
    ): Int

    fun LiteRtGetSignatureInputName(
        signature: Pointer,
        index: Long,
        name: PointerByReference,
    ): Int

    fun LiteRtGetSignatureOutputName(
        signature: Pointer,
        index: Long,
        name: PointerByReference,
    ): Int

    fun LiteRtGetSignatureInputTensorByIndex(
        signature: Pointer,
        index: Long,
        tensor: PointerByReference,
    ): Int

    fun LiteRtGetSignatureOutputTensorByIndex(
        signature: Pointer,
        index: Long,
        tensor: PointerByReference,
    ): Int

    fun LiteRtGetRankedTensorType(
        tensor: Pointer,
        type: Pointer,
    ): Int

    fun LiteRtGetCompiledModelInputBufferRequirements(
        compiled: Pointer,
        signature: Long,
        index: Long,
        requirements: PointerByReference,
    ): Int

    fun LiteRtGetCompiledModelOutputBufferRequirements(
        compiled: Pointer,
        signature: Long,
        index: Long,
        requirements: PointerByReference,
    ): Int

    fun LiteRtCreateManagedTensorBufferFromRequirements(
        environment: Pointer,
        type: Pointer,
        requirements: Pointer,
        buffer: PointerByReference,
    ): Int

    fun LiteRtDestroyTensorBuffer(buffer: Pointer)

    fun LiteRtLockTensorBuffer(
        buffer: Pointer,
        address: PointerByReference,
        mode: Int,
    ): Int

    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int

    fun LiteRtRunCompiledModel(
        compiled: Pointer,
        signature: Long,
        inputCount: Long,
        inputs: Array<Pointer>,
        outputCount: Long,
        outputs: Array<Pointer>,
    ): Int
}

internal val c: LiteRtC by lazy { Native.load(System.getProperty("litert.so"), LiteRtC::class.java) }

/** One environment for the process, as in Python: each would look for its accelerators again. */
internal val environment: Pointer by lazy { made("create an environment") { c.LiteRtCreateEnvironment(0, null, it) } }

internal fun ok(
    status: Int,
    what: String,
) {
    if (status != 0) throw LiteRtException(status, "$what: LiteRtStatus $status")
}

internal inline fun made(
    what: String,
    call: (PointerByReference) -> Int,
): Pointer {
    val result = PointerByReference()
    ok(call(result), what)
    return result.value
}
